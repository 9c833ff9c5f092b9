"""The estimators of log Z. To add one: its file, and its line in ESTIMATORS."""

from unnorm.methods import registry_name
from unnorm.partition.ais import AIS
from unnorm.partition.exact import Exact
from unnorm.partition.flow import FlowImportance
from unnorm.partition.importance import ImportanceSampling
from unnorm.partition.nested import NestedSampling
from unnorm.partition.quadrature import Quadrature
from unnorm.partition.smc import SMC

ESTIMATORS = {
    registry_name(estimator): estimator
    for estimator in (Exact, Quadrature, ImportanceSampling, AIS, SMC, NestedSampling, FlowImportance)
}

__all__ = [
    "AIS", "ESTIMATORS", "SMC", "Exact", "FlowImportance", "ImportanceSampling", "NestedSampling", "Quadrature",
]  # fmt: skip
