"""The objectives, a file per family. To add one: its file, and its line in OBJECTIVES."""

from unnorm.fitting.objectives.contrastive_divergence import ContrastiveDivergence
from unnorm.fitting.objectives.maximum_likelihood import MaximumLikelihood
from unnorm.fitting.objectives.nce import NCE
from unnorm.fitting.objectives.score_matching import ScoreMatching
from unnorm.methods import registry_name

OBJECTIVES = {registry_name(cls): cls for cls in (MaximumLikelihood, ContrastiveDivergence, ScoreMatching, NCE)}

__all__ = ["NCE", "OBJECTIVES", "ContrastiveDivergence", "MaximumLikelihood", "ScoreMatching"]
