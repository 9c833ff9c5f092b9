"""The objectives, a file per family. To add one: its file, and its line in OBJECTIVES."""

from unnorm.core.method import registry_name
from unnorm.fitting.objectives.adversarial.objective import Adversarial
from unnorm.fitting.objectives.conditional.probability_flow import ProbabilityFlow
from unnorm.fitting.objectives.conditional.pseudo_likelihood import PseudoLikelihood
from unnorm.fitting.objectives.conditional.ratio_matching import RatioMatching
from unnorm.fitting.objectives.contrastive_divergence.objective import ContrastiveDivergence
from unnorm.fitting.objectives.energy_discrepancy import EnergyDiscrepancy
from unnorm.fitting.objectives.likelihood.maximum_likelihood import MaximumLikelihood
from unnorm.fitting.objectives.noise_contrastive.conditional_nce import ConditionalNCE
from unnorm.fitting.objectives.noise_contrastive.flow_contrastive import FlowContrastive
from unnorm.fitting.objectives.noise_contrastive.nce import NCE
from unnorm.fitting.objectives.noise_contrastive.ranking_nce import RankingNCE
from unnorm.fitting.objectives.noise_contrastive.self_normalized import SelfNormalized
from unnorm.fitting.objectives.score_matching.denoising import DenoisingScoreMatching
from unnorm.fitting.objectives.score_matching.exact import ScoreMatching
from unnorm.fitting.objectives.score_matching.finite_difference import FiniteDifferenceScoreMatching
from unnorm.fitting.objectives.score_matching.sliced import SlicedScoreMatching
from unnorm.fitting.objectives.stein_discrepancy import SteinDiscrepancy
from unnorm.fitting.objectives.variational.objective import EvidenceLowerBound
from unnorm.fitting.procedures.training_loss import loss

_CLASSES = (
    MaximumLikelihood,
    ContrastiveDivergence,
    ScoreMatching,
    SlicedScoreMatching,
    DenoisingScoreMatching,
    FiniteDifferenceScoreMatching,
    NCE,
    RankingNCE,
    ConditionalNCE,
    EnergyDiscrepancy,
    SelfNormalized,
    FlowContrastive,
    Adversarial,
    EvidenceLowerBound,
    PseudoLikelihood,
    RatioMatching,
    ProbabilityFlow,
    SteinDiscrepancy,
)
for _cls in _CLASSES:
    _cls.loss = loss  # type: ignore[attr-defined, union-attr]
OBJECTIVES = {registry_name(cls): cls for cls in _CLASSES}

__all__ = ["OBJECTIVES", *(cls.__name__ for cls in _CLASSES)]
