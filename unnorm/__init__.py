"""unnorm: declare, sample, diagnose, fit and normalize densities known up to a constant."""

import importlib

from unnorm import algebra as _algebra  # noqa: F401  (attaches p * q and p ** beta)
from unnorm import normalize as _normalize  # noqa: F401  (attaches p.normalized())
from unnorm.algebra import truncate
from unnorm.density import Density, density
from unnorm.precision import trace_arrays_by_precision as _trace_arrays_by_precision
from unnorm.supports import (
    Binary,
    Categorical,
    Circle,
    Constant,
    Count,
    Covariate,
    Graph,
    Interval,
    Ordered,
    Positive,
    PositiveDefinite,
    PyTree,
    Real,
    Simplex,
    Sphere,
    Spin,
    Symmetric,
)

__version__ = "0.1.0"

_trace_arrays_by_precision()

_LAZY = {
    "kernels": "unnorm.sampling.kernels",
    "objectives": "unnorm.fitting.objectives",
    "estimators": "unnorm.partition.estimators",
    "models": "unnorm.models",
    "sample": "unnorm.sampling.driver:sample",
    "resume": "unnorm.sampling.driver:resume",
    "use_devices": "unnorm.sampling.devices:use_devices",
    "diagnose": "unnorm.diagnostics.convergence:diagnose",
    "fit": "unnorm.fitting.driver:fit",
    "path": "unnorm.fitting.path:path",
    "compare": "unnorm.fitting.compare:compare",
    "posterior": "unnorm.fitting.posterior:posterior",
    "simulate": "unnorm.fitting.predictive:simulate",
    "L1": "unnorm.fitting.penalties:L1",
    "L2": "unnorm.fitting.penalties:L2",
    "StoreError": "unnorm.sampling.files:StoreError",
    "load": "unnorm.fitting.saved:load",
    "log_z": "unnorm.partition.driver:log_z",
    "from_numpyro": "unnorm.numpyro_bridge:from_numpyro",
}

__all__ = [
    "Binary", "Categorical", "Circle", "Constant", "Count", "Covariate", "Density", "Graph", "Interval", "Ordered",
    "Positive", "PositiveDefinite", "PyTree", "Real", "Simplex", "Sphere", "Spin", "Symmetric", "density", "truncate",
    *_LAZY,
]  # fmt: skip


def __getattr__(name: str):
    """Import the verbs and their folders when first used: a declaration alone starts quickly."""
    if name not in _LAZY:
        raise AttributeError(f"module 'unnorm' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    found = importlib.import_module(module)
    found = getattr(found, attribute) if attribute else found
    globals()[name] = found
    return found


def __dir__():
    return sorted(__all__)
