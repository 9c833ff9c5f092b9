"""The estimators of log Z. To add one: its file, and its line in ESTIMATORS."""

from unnorm.core.method import registry_name
from unnorm.partition.estimators.annealed_importance_sampling import AIS
from unnorm.partition.estimators.bennett_acceptance_ratio import Bennett
from unnorm.partition.estimators.bridge_sampling import Bridge
from unnorm.partition.estimators.exact import Exact
from unnorm.partition.estimators.importance_sampling import ImportanceSampling
from unnorm.partition.estimators.nested_sampling import NestedSampling
from unnorm.partition.estimators.noise_contrastive import NCE
from unnorm.partition.estimators.normalizing_flow import FlowImportance
from unnorm.partition.estimators.quadrature import Quadrature
from unnorm.partition.estimators.sequential_monte_carlo import SMC
from unnorm.partition.estimators.thermodynamic_integration import ThermodynamicIntegration

ESTIMATORS = {
    registry_name(estimator): estimator
    for estimator in (
        Exact, Quadrature, ImportanceSampling, AIS, Bennett, SMC, ThermodynamicIntegration, Bridge,
        NestedSampling, FlowImportance, NCE,
    )
}  # fmt: skip

__all__ = [
    "AIS",
    "ESTIMATORS",
    "NCE",
    "SMC",
    "Bennett",
    "Bridge",
    "Exact",
    "FlowImportance",
    "ImportanceSampling",
    "NestedSampling",
    "Quadrature",
    "ThermodynamicIntegration",
]  # fmt: skip
