"""The objectives, a file per family. To add one: its file, and its line in OBJECTIVES."""

from unnorm.fitting.objectives.conditional_nce import ConditionalNCE
from unnorm.fitting.objectives.contrastive_divergence import ContrastiveDivergence
from unnorm.fitting.objectives.denoising import DenoisingScoreMatching
from unnorm.fitting.objectives.finite_difference import FiniteDifferenceScoreMatching
from unnorm.fitting.objectives.maximum_likelihood import MaximumLikelihood
from unnorm.fitting.objectives.nce import NCE
from unnorm.fitting.objectives.probability_flow import ProbabilityFlow
from unnorm.fitting.objectives.pseudo_likelihood import PseudoLikelihood
from unnorm.fitting.objectives.ranking_nce import RankingNCE
from unnorm.fitting.objectives.ratio_matching import RatioMatching
from unnorm.fitting.objectives.score_matching import ScoreMatching
from unnorm.fitting.objectives.self_normalized import SelfNormalized
from unnorm.fitting.objectives.sliced import SlicedScoreMatching
from unnorm.fitting.objectives.stein_discrepancy import SteinDiscrepancy
from unnorm.methods import registry_name

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
    SelfNormalized,
    PseudoLikelihood,
    RatioMatching,
    ProbabilityFlow,
    SteinDiscrepancy,
)
OBJECTIVES = {registry_name(cls): cls for cls in _CLASSES}

__all__ = ["OBJECTIVES", *(cls.__name__ for cls in _CLASSES)]
