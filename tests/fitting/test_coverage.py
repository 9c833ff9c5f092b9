"""95% intervals over 1,000 simulated data sets, of a true and of a wrong model, whose target is the
objective's own.

`python tests/shared/coverage_table.py` prints what the last runs found;
docs/appendix/coverage.md keeps it.
"""

import numpy as np
import pandas as pd
import pytest
from coverage_studies import SETS, aims_at, aims_in_blocks, coverage, small_flow

import unnorm as un

o = un.objectives
CD = o.ContrastiveDivergence
OBJECTIVES = {
    "maximum likelihood": dict.fromkeys(
        ("ising", "gamma", "conway", "mises"), o.MaximumLikelihood()
    ),
    "MCMC maximum likelihood": {"wells": o.MaximumLikelihood(draws=4000)},
    "contrastive divergence": {"ising": CD()},
    "persistent contrastive divergence": {"ising": CD(persistent=True, chains=200)},
    "score matching": dict.fromkeys(("wells", "gamma", "conway", "mises"), o.ScoreMatching()),
    "sliced score matching": {"wells": o.SlicedScoreMatching()},
    "sliced score matching, plain": {"wells": o.SlicedScoreMatching(variance_reduction=False)},
    "denoising score matching": {"wells": o.DenoisingScoreMatching(sigma=0.3)},
    "finite differences": {"wells": o.FiniteDifferenceScoreMatching()},
    "ratio matching": {"ising": o.RatioMatching()},
    "probability flow": {"ising": o.ProbabilityFlow()},
    "pseudo-likelihood": {"ising": o.PseudoLikelihood()},
    "composite likelihood, blocks of 2": {"ising": o.PseudoLikelihood(blocks=[[0, 1], [2, 3]])},
    "NCE": dict.fromkeys(("wells", "gamma", "mises"), o.NCE()),
    "NCE, exact": {"ising": o.NCE(exact=True)},
    "ranking NCE": {"ising": o.RankingNCE()},
    "conditional NCE": {"wells": o.ConditionalNCE()},
    "energy discrepancy": {"wells": o.EnergyDiscrepancy()},
    "self-normalised": {"wells": o.SelfNormalized(noise_ratio=20)},
    "flow contrastive": dict.fromkeys(
        ("gaussian", "ozone and wind"), o.FlowContrastive(small_flow())
    ),
    "Stein discrepancy": {"wells": o.SteinDiscrepancy()},
}
# Whose optimum on very many rows is maximum likelihood's.
LIMITS = (
    "MCMC maximum likelihood",
    "persistent contrastive divergence",
    "self-normalised",
    "flow contrastive",
)
WITHOUT_ERRORS = {o.Adversarial, o.EvidenceLowerBound}
# Standard errors take the flow as given, which has a part in them where the model is wrong.
TRUE_MODELS = ("flow contrastive",)
# H⁻¹/n is the covariance of a likelihood alone: here it must be seen to miss.
NO_LIKELIHOOD = (
    "score matching",
    "sliced score matching",
    "ratio matching",
    "probability flow",
    "pseudo-likelihood",
    "Stein discrepancy",
)


def test_every_objective_is_in_the_table():
    studied = {type(objective) for studies in OBJECTIVES.values() for objective in studies.values()}
    assert studied | WITHOUT_ERRORS == set(o.OBJECTIVES.values())


def aim_of(what, name, true, objective):
    """The objective's own target: its optimum on very many rows."""
    if objective.traits.couples_rows:
        return aims_in_blocks(name, true, objective)
    many = {"many": 150} if what == "contrastive divergence" else {}
    return aims_at(name, true, objective, o.MaximumLikelihood() if what in LIMITS else None, **many)


@pytest.mark.slow
@pytest.mark.parametrize("what", OBJECTIVES)
def test_intervals_cover(what, request):
    cells, by_inverse_curvature = [], []
    for name, objective in OBJECTIVES[what].items():
        for true in (True,) if what in TRUE_MODELS else (True, False):
            found = coverage(name, true, objective, aim_of(what, name, true, objective))
            case = {
                "covered": found.covered.to_dict(),
                "by H⁻¹/n": found.by_inverse_curvature.to_dict(),
                "infinite": found.infinite,
                "unsettled": found.unsettled,
                "sets": SETS,
            }
            request.config.cache.set(
                f"coverage/{what.replace('/', '')}/{name}/{'true' if true else 'wrong'}", case
            )
            assert found.infinite < 0.02 * SETS and found.unsettled < 0.02 * SETS, case
            cells.append(found.covered)
            by_inverse_curvature.append(found.by_inverse_curvature)
    cells = pd.concat(cells)
    assert cells.between(0.92, 0.975).all(), cells
    assert 0.94 <= np.mean(cells) <= 0.96, cells
    if what in NO_LIKELIHOOD:
        assert not pd.concat(by_inverse_curvature).between(0.92, 0.975).all()
