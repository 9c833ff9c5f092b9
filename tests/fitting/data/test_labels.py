"""Labels beside continuous variables: observed or summed out, by every objective that can."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within

import unnorm as un

o = un.objectives
QUIET = {"seed": 0, "progress": False}
MEANS, LOGITS = np.array([-2.0, 0.0, 3.0]), np.log([0.5, 0.3, 0.2])
ROWS = 3000
RNG = np.random.default_rng(0)
Y = RNG.choice(3, ROWS, p=np.exp(LOGITS))
X = MEANS[Y] + RNG.normal(size=ROWS)
TRUTH = np.array([*MEANS, LOGITS[1] - LOGITS[0], LOGITS[2] - LOGITS[0]])


@un.density
def joint(x: un.Real, y: un.Categorical(3), *, means: un.Real[3] = MEANS, odds: un.Real[2] = 0.0):
    """log p(x, y): a normal for each label; smoothed by nothing."""
    return -0.5 * (x - y @ means) ** 2 + y[1:] @ odds


@un.density
def smoothed(
    x: un.Real,
    y: un.Categorical(3),
    *,
    sigma: un.Covariate,
    means: un.Real[3] = MEANS,
    odds: un.Real[2] = 0.0,
):
    """The same at every noise level."""
    return -0.5 * (x - y @ means) ** 2 / (1 + sigma**2) + y[1:] @ odds


@un.density
def conditional(x: un.Real, *, y: un.Covariate, means: un.Real[3] = 0.0):
    return -0.5 * (x - means[y.astype(int)]) ** 2


LEVELS = o.DenoisingScoreMatching(sigma=(0.3, 3.0, 3), corruptions=3)
JOINT = {
    "nce": (joint, o.NCE(noise_ratio=5)),
    "levels": (smoothed, LEVELS),
    "maximum_likelihood": (joint, o.MaximumLikelihood()),
    "ranking": (joint, o.RankingNCE(noise_ratio=5)),
}


def near_the_truth(found, truth):
    errors = found.standard_error.to_numpy()
    assert np.all(errors < 0.3)
    assert_within(found.estimate.to_numpy(), truth, errors)


@pytest.mark.parametrize(
    "name", ["nce", *(pytest.param(one, marks=pytest.mark.slow) for one in ("levels", "ranking"))]
)
def test_a_joint_density_is_found_with_its_labels(name):
    p, objective = JOINT[name]
    fit = un.fit(p, {"x": X, "y": Y}, objective, **QUIET)
    assert fit.converged
    near_the_truth(fit.summary(), TRUTH)


@pytest.mark.parametrize(
    "name",
    ["levels", *(pytest.param(n, marks=pytest.mark.slow) for n in JOINT if n != "levels")],
)
def test_a_label_that_is_absent_is_summed_out(name):
    p, objective = JOINT[name]
    fit = un.fit(p, {"x": X}, objective, **QUIET)
    assert fit.converged and any("y is absent" in finding.what for finding in fit.findings)
    near_the_truth(fit.summary(), TRUTH)
    assert set(fit.density.variables) == {"x", "y"}


@pytest.mark.parametrize(
    "objective",
    [
        o.DenoisingScoreMatching(sigma=0.5),
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (o.EnergyDiscrepancy(), o.RankingNCE(), o.ConditionalNCE())
        ),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_conditional_density_needs_no_z_of_each_label(objective):
    found = un.fit(conditional, {"x": X, "y": Y}, objective, **QUIET).summary()
    near_the_truth(found, MEANS)


def test_the_sum_is_that_of_all_states():
    p = joint.bind(odds=np.array([0.5, -1.0])).for_jit()
    summed = p._summing(("y",))
    assert list(summed.variables) == ["x"]
    each = [float(p.log_density({"x": jnp.array(0.3), "y": jnp.array(float(k))})) for k in range(3)]
    found = float(summed.log_density({"x": jnp.array(0.3)}))
    assert found == pytest.approx(np.logaddexp.reduce(each), rel=1e-5)


@pytest.mark.parametrize(
    ("p", "data", "objective", "why"),
    [
        (joint, {"x": X, "y": Y}, o.SlicedScoreMatching(), r"use un\.objectives\.NCE"),
        (joint, {"x": X, "y": Y}, o.EnergyDiscrepancy(), r"use un\.objectives\.ConditionalNCE"),
        (conditional, {"x": X, "y": Y}, o.NCE(), r"use un\.objectives\.RankingNCE"),
        (joint, {"y": Y}, o.NCE(), "does not serve latent variables"),
    ],
)
def test_the_others_name_those_that_can(p, data, objective, why):
    with pytest.raises(ValueError, match=why):
        un.fit(p, data, objective, **QUIET)
