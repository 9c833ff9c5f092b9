"""The estimators of log Z. To add one: its file, and its line in ESTIMATORS."""

from unnorm.methods import registry_name
from unnorm.partition.ais import AIS
from unnorm.partition.bennett import Bennett
from unnorm.partition.bridge import Bridge
from unnorm.partition.exact import Exact
from unnorm.partition.flow import FlowImportance
from unnorm.partition.importance import ImportanceSampling
from unnorm.partition.nested import NestedSampling
from unnorm.partition.noise_contrastive import NCE
from unnorm.partition.quadrature import Quadrature
from unnorm.partition.smc import SMC
from unnorm.partition.thermodynamic import ThermodynamicIntegration

ESTIMATORS = {
    registry_name(estimator): estimator
    for estimator in (
        Exact, Quadrature, ImportanceSampling, AIS, Bennett, SMC, ThermodynamicIntegration, Bridge,
        NestedSampling, FlowImportance, NCE,
    )
}  # fmt: skip

__all__ = [
    "AIS", "Bennett", "Bridge", "ESTIMATORS", "NCE", "SMC", "Exact", "FlowImportance", "ImportanceSampling",
    "NestedSampling", "Quadrature", "ThermodynamicIntegration",
]  # fmt: skip
