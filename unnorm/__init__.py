"""unnorm: declare, sample, diagnose, fit and normalize densities known up to a constant."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unnorm.declaration.composite.product import truncate
    from unnorm.declaration.density import Density, density
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

_SUPPORTS = (
    "Binary", "Categorical", "Circle", "Constant", "Count", "Covariate", "Graph", "Interval",
    "Ordered", "Positive", "PositiveDefinite", "PyTree", "Real", "Simplex", "Sphere", "Spin",
    "Symmetric",
)  # fmt: skip
_LAZY = {
    "Density": "unnorm.declaration.density:Density",
    "density": "unnorm.declaration.density:density",
    "truncate": "unnorm.declaration.composite.product:truncate",
    **{name: f"unnorm.supports:{name}" for name in _SUPPORTS},
    "kernels": "unnorm.sampling.kernels.registry",
    "objectives": "unnorm.fitting.objectives.registry",
    "estimators": "unnorm.partition.estimators.registry",
    "models": "unnorm.models",
    "sample": "unnorm.sampling.driver:sample",
    "resume": "unnorm.sampling.driver:resume",
    "use_devices": "unnorm.sampling.engine.devices:use_devices",
    "diagnose": "unnorm.diagnostics.convergence:diagnose",
    "fit": "unnorm.fitting.driver:fit",
    "Fit": "unnorm.fitting.results.fit:Fit",
    "LogZ": "unnorm.partition.base:LogZ",
    "Diagnosis": "unnorm.diagnostics.convergence:Diagnosis",
    "path": "unnorm.fitting.penalties.path:path",
    "design": "unnorm.bridges.design:design",
    "compare": "unnorm.fitting.comparison.compare:compare",
    "posterior": "unnorm.fitting.posterior:posterior",
    "simulate": "unnorm.fitting.simulation.simulate:simulate",
    "L1": "unnorm.fitting.penalties.terms:L1",
    "L2": "unnorm.fitting.penalties.terms:L2",
    "StoreError": "unnorm.sampling.output.atomic_files:StoreError",
    "load": "unnorm.fitting.results.load:load",
    "log_z": "unnorm.partition.driver:log_z",
    "from_callable": "unnorm.bridges.callable:from_callable",
    "from_stan": "unnorm.bridges.stan:from_stan",
    "from_pymc": "unnorm.bridges.pymc:from_pymc",
    "from_numpyro": "unnorm.bridges.numpyro.from_model:from_numpyro",
    "plot_forest": "unnorm.plots.forest:plot_forest",
    "plot_network": "unnorm.plots.network:plot_network",
    "plot_path": "unnorm.plots.path:plot_path",
    "plot_profile": "unnorm.plots.profile:plot_profile",
    "plot_predictive": "unnorm.plots.predictive:plot_predictive",
    "plot_density": "unnorm.plots.density:plot_density",
    "plot_grid": "unnorm.plots.grid:plot_grid",
    "goodness_of_fit": "unnorm.plots.goodness_of_fit:goodness_of_fit",
    "plot_training": "unnorm.plots.training:plot_training",
    "plot_log_z": "unnorm.plots.log_z:plot_log_z",
    "report": "unnorm.reports.driver:report",
}

# Attach p * q and p ** beta, p.normalized() and p.to_numpyro() to `Density`.
_ATTACH = (
    "unnorm.declaration.composite.product",
    "unnorm.partition.normalized",
    "unnorm.bridges.numpyro.to_model",
)

__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `unnorm --help` needs none, a declaration alone few."""
    if name not in _LAZY:
        raise AttributeError(f"module 'unnorm' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    for attaching in _ATTACH:
        importlib.import_module(attaching)
    found = importlib.import_module(module)
    found = getattr(found, attribute) if attribute else found
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
