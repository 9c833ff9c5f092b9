"""What a variable or a parameter may be.

A support alone knows its bijection to R^n with log |det J|, its check, its start, its reference
measure, the form of score matching that it admits, its default noise, and which of its entries are
free. No other file switches on the kind of a support: a new support is one class here.
"""

from unnorm.supports.base import (
    Annotation,
    Axis,
    Constant,
    ConstantAnnotation,
    Covariate,
    CovariateAnnotation,
    PyTree,
    PyTreeSupport,
    Support,
)
from unnorm.supports.constraint import ConstraintSupport
from unnorm.supports.continuous import Interval, Ordered, Positive, Real, RealSupport, Simplex
from unnorm.supports.directional import Circle, Sphere
from unnorm.supports.discrete import Binary, Categorical, Count, Graph, Spin
from unnorm.supports.matrices import PositiveDefinite, Symmetric

__all__ = [
    "Annotation", "Axis", "Binary", "Categorical", "Circle", "Constant", "ConstantAnnotation",
    "ConstraintSupport", "Count", "Covariate", "CovariateAnnotation", "Graph", "Interval",
    "Ordered", "Positive", "PositiveDefinite", "PyTree", "PyTreeSupport", "Real", "RealSupport",
    "Simplex", "Sphere", "Spin", "Support", "Symmetric",
]  # fmt: skip
