"""What a variable or a parameter may be.

A support alone knows its bijection to R^n with log |det J|, its check, its start, its reference
measure, the form of score matching that it admits, its default noise, and which of its entries are
free. No other file switches on the kind of a support: a new support is one class here.
"""

from unnorm.supports.base import Axis, Constant, Covariate, Declared, Support, _Constant, _Covariate
from unnorm.supports.continuous import Interval, Ordered, Positive, Real, Simplex, _Real
from unnorm.supports.directional import Circle, Sphere
from unnorm.supports.discrete import Binary, Categorical, Count, Graph, Spin
from unnorm.supports.matrices import PositiveDefinite, PyTree, Symmetric, _PyTree

__all__ = [
    "Axis", "Binary", "Categorical", "Circle", "Constant", "Count", "Covariate", "Declared", "Graph", "Interval",
    "Ordered", "Positive", "PositiveDefinite", "PyTree", "Real", "Simplex", "Sphere", "Spin", "Support", "Symmetric",
    "_Constant", "_Covariate", "_PyTree", "_Real",
]  # fmt: skip
