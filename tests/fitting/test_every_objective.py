"""Every family of un.models by every objective that serves it: the fit is the truth, up to the
noise of its data.

How far a fit lies from the truth is said by Kullback and Leibler's divergence, a sum over all
events of the formula in plain NumPy; maximum likelihood leaves k / 2n of it for k parameters and n
rows.
"""

import jax
import numpy as np
import pytest
from family_cases import CASES, case, everything, rows_of
from scipy import special

import unnorm as un

ROWS = 2000
WORST = 8.0  # times k / 2n: for the less efficient, and for chance
SMOOTHED = 0.1  # nats: denoising aims at the data's density with noise added, and draws that noise
SIGMA = 0.3  # of it, in standard deviations of the data, or of a toy's modes
SUPPORTS = {  # the objectives that serve some supports only
    "sliced_score_matching": {un.Real, un.Circle},
    "denoising_score_matching": {un.Real, un.Circle},
    "finite_difference_score_matching": {un.Real, un.Circle},
    "stein_discrepancy": {un.Real},
    "energy_discrepancy": {un.Real, un.Circle, un.Positive, un.Interval},
    "flow_contrastive": {un.Real, un.Positive, un.Interval},
    "adversarial": {un.Real, un.Positive, un.Interval},
    "evidence_lower_bound": set(),  # latent variables, which no family leaves out
    "ratio_matching": {un.Binary, un.Spin, un.Graph},
    "probability_flow": {un.Binary, un.Spin, un.Graph, un.Categorical},
    "pseudo_likelihood": {un.Binary, un.Spin, un.Graph, un.Categorical, un.Count},
}
SUPPORTS["maximum_likelihood"] = {un.Positive, un.Interval, un.Sphere}.union(*SUPPORTS.values())


def serves(objective, name):
    if (name, objective) == ("multivariate_conway_maxwell_poisson", "maximum_likelihood"):
        return False  # two counts without end have no exact Z
    kinds = SUPPORTS.get(objective, SUPPORTS["maximum_likelihood"])
    return all(
        any(_is(support, kind) for kind in kinds)
        for support in case(name).density.variables.values()
    )


def _is(support, kind):
    return isinstance(support, kind if isinstance(kind, type) else type(kind))


def divergence(name, fit):
    """Σ p (log p − log q) over all events, both normalized there."""
    events, log_mass, log_z = everything(name)
    log_weights = case(name).nodes()[1]
    values = (
        np.asarray(jax.jit(jax.vmap(fit.density.for_jit().log_density))(events), float)
        + log_weights
    )
    ours, truth = values - special.logsumexp(values), log_mass - log_z
    return float(np.exp(truth) @ (truth - ours))


@pytest.mark.slow
@pytest.mark.parametrize("objective", un.objectives.OBJECTIVES)
@pytest.mark.parametrize("name", CASES)
def test_a_family_by_an_objective(name, objective):
    p, rows = case(name).density, rows_of(name, count=ROWS)
    chosen = objective
    if objective == "denoising_score_matching":
        width = p.parameters.get("scale", np.std(next(iter(rows.values())), 0).max())
        chosen = un.objectives.DenoisingScoreMatching(sigma=SIGMA * float(width))
    if not serves(objective, name):
        with pytest.raises(ValueError, match=r"use un.objectives|needs an exact log Z"):
            un.fit(p, rows, chosen, seed=0, progress=False)
        return
    fit = un.fit(p, rows, chosen, seed=0, progress=False)
    assert fit.converged
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(p.free()))
    found = fit.summary()
    if objective != "adversarial":  # it has none, and says so
        assert np.isfinite(found.standard_error.to_numpy(float)).all()
    if objective == "stein_discrepancy" and "scale" in p.parameters:
        # its kernel, as wide as the data, sees little of a narrow mode: 80 times the least
        # variance, and it says so
        assert (
            abs(found.estimate["scale"] - p.parameters["scale"]) < 4 * found.standard_error["scale"]
        )
        return
    bound = SMOOTHED if objective == "denoising_score_matching" else WORST * parameters / (2 * ROWS)
    assert -1e-6 < divergence(name, fit) < bound
