"""`diagnose` passes good draws, and each failure raises its own finding."""

import json
import subprocess
import sys

import arviz_base
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.findings import Unreliable
from unnorm.diagnostics.against_density.stein import stein_check


@un.density
def gaussian(x: un.Real["d"], *, precision: un.PositiveDefinite["d"] = 1.0):
    return -0.5 * x @ precision @ x


def iid(*shape, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def tree(stats=None, attrs=None, dims=None, coords=None, **posterior):
    groups = {"posterior": posterior} | ({"sample_stats": stats} if stats else {})
    made = arviz_base.from_dict(groups, dims=dims, coords=coords)
    made.attrs.update(attrs or {})
    return made


def told(check, severity=None):
    return [finding.what for finding in check.findings if severity in (None, finding.severity)]


def only(check, part, severity="error"):
    """The one finding, which holds this text and has this severity; its advice is not empty."""
    assert len(check.findings) == 1, told(check)
    (finding,) = check.findings
    assert part in finding.what
    assert finding.severity == severity and finding.advice
    return finding


def test_independent_draws_pass_and_the_table_is_labelled():
    x = iid(4, 500, 2)
    check = un.diagnose(tree(x=x, dims={"x": ["k"]}, coords={"k": ["Ozone", "Wind"]}))
    assert check.passed and not check.findings
    assert list(check.table.index) == ["x[Ozone]", "x[Wind]"]
    assert list(check.table.columns) == [
        "mean",
        "sd",
        "mcse_mean",
        "mcse_sd",
        "ess_bulk",
        "ess_tail",
        "r_hat",
    ]
    np.testing.assert_allclose(check.table["mean"], x.mean((0, 1)))
    assert "\n" not in repr(check) and "passed" in repr(check)
    assert "x[Ozone]" in str(check)


def test_whole_numbers_pass_where_exactly_half_are_ones():
    rng = np.random.default_rng(0)
    half = np.stack(
        [rng.permutation(np.repeat([0, 1], 250)) for _ in range(4)]
    )  # folded R-hat is NaN here
    assert un.diagnose(tree(s=half, b=half.astype(bool), n=rng.poisson(2, (4, 500)))).passed


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t,
        lambda t: t["posterior"].to_dataset(),
        lambda t: {"x": t["posterior"]["x"].values},
    ],
)
def test_draws_may_come_in_several_forms(make):
    assert un.diagnose(make(tree(x=iid(4, 500)))).passed


def test_old_inference_data_is_accepted():
    class InferenceData:
        def __init__(self, groups):
            self.posterior = groups["posterior"].to_dataset()
            self.sample_stats = groups["sample_stats"].to_dataset()

    check = un.diagnose(
        InferenceData(tree({"diverging": np.eye(4, 500, dtype=bool)}, x=iid(4, 500)))
    )
    only(check, "diverged")


# -- convergence -----------------------------------------------------------------------------------
def test_chains_that_disagree_fail_by_r_hat():
    x = iid(4, 500, 2)
    x[0, :, 1] += 2
    check = un.diagnose({"x": x})
    assert not check.passed
    assert "R-hat" in told(check)[0] and "x[1]" in told(check)[0] and "x[0]" not in told(check)[0]
    with pytest.raises(Unreliable, match="R-hat"):
        un.diagnose({"x": x}, strict=True)


def test_a_constant_entry_fails_by_nan():
    check = un.diagnose(tree(x=iid(4, 500), c=np.full((4, 500), 1.5)))
    only(check, "c never changes in any chain")
    assert np.isnan(check.table.loc["c", ["r_hat", "ess_bulk"]].to_numpy(float)).all()


def test_a_constant_binary_entry_says_what_it_may_mean():
    spins = np.random.default_rng(0).integers(0, 2, (4, 500, 3))
    spins[..., 1] = 1
    assert "near 0 or 1" in only(un.diagnose({"s": spins}), "s[1] never changes").advice


def test_few_effective_draws_fail_with_a_number_that_would_do():
    x = iid(4, 2000)
    for i in range(1, 2000):
        x[:, i] = 0.97 * x[:, i - 1] + np.sqrt(1 - 0.97**2) * x[:, i]
    check = un.diagnose({"x": x})
    (finding,) = [f for f in check.findings if "bulk" in f.what]
    assert finding.severity == "error"
    draws = int(finding.advice.split(" draws")[0].removeprefix("about ").replace(",", ""))
    assert 2000 < draws < 30000


def test_many_short_chains_are_only_warned_of():
    only_tail_or_bulk = un.diagnose({"x": iid(64, 100)})
    assert not [what for what in told(only_tail_or_bulk, "error") if "sample size" in what]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_draws_that_are_not_finite_fail(bad):
    x = iid(4, 500, 2)
    x[1, 3, 0] = bad
    only(un.diagnose({"x": x}), "NaN or infinite in x[0] (1 of 2,000)")
    assert not un.diagnose({"x": np.full((4, 500), bad)}).passed


@pytest.mark.parametrize(
    ("shape", "part"),
    [((1, 500), "at least two"), ((4, 50), "too few"), ((4, 3), "too few"), ((4, 1), "too few")],
)
def test_too_few_chains_or_draws_fail_without_a_crash(shape, part):
    check = un.diagnose({"x": iid(*shape)})
    assert not check.passed
    assert part in " ".join(told(check, "error"))
    str(check), repr(check)


def test_a_stuck_chain_is_named():
    x = iid(4, 500, 2)
    x[2] = x[2, 0]
    assert "x never moves in chain 2" in told(un.diagnose({"x": x}), "error")


def test_chains_that_are_each_stuck_fail():
    assert not un.diagnose({"x": np.repeat(iid(4, 1), 500, 1)}).passed


# -- the sampler's own signals ---------------------------------------------------------------------
def stat(fill, chain=None, value=None):
    out = np.full((4, 500), fill)
    if chain is not None:
        out[chain] = value
    return out


GOOD_ENERGY = iid(4, 500, seed=5)


@pytest.mark.parametrize(
    ("stats", "attrs", "part", "severity"),
    [
        (
            {"diverging": stat(False, 1, True)},
            {},
            "500 of 2,000 trajectories diverged (25.00%)",
            "error",
        ),
        ({"nan_proposal": stat(False, 1, True)}, {}, "NaN at 500 of 2,000 proposals", "error"),
        ({"inf_proposal": stat(False, 0, True)}, {}, "+inf at 500", "error"),
        (
            {"acceptance_rate": stat(0.5, 3, 0.0)},
            {},
            "Hardly any proposal was accepted in chain 3",
            "error",
        ),
        (
            {"acceptance_rate": stat(0.5, 3, np.nan)},
            {},
            "Hardly any proposal was accepted in chain 3",
            "error",
        ),
        ({"acceptance_rate": stat(0.03)}, {}, "Only 3.0%", "warning"),
        ({"acceptance_rate": stat(0.99)}, {"kernel": "random_walk_mh"}, "99.0%", "warning"),
        ({"tree_depth": stat(10)}, {}, "tree depth 10", "warning"),
        (
            {"tree_depth": stat(5)},
            {"tuning": json.dumps({"max_tree_depth": 5})},
            "tree depth 5",
            "warning",
        ),
        ({"energy": np.cumsum(GOOD_ENERGY, 1)}, {}, "E-BFMI", "warning"),
        ({}, {"incomplete": True}, "did not come to its end", "error"),
        ({}, {"findings": json.dumps([["seen", "do this", "warning"]])}, "seen", "warning"),
    ],
)
def test_each_signal_has_its_finding(stats, attrs, part, severity):
    check = un.diagnose(tree(stats, attrs, x=iid(4, 500)))
    only(check, part, severity)
    assert check.passed == (severity != "error")


def test_good_signals_and_foreign_attributes_pass():
    stats = {
        "acceptance_rate": stat(0.8),
        "diverging": stat(False),
        "energy": GOOD_ENERGY,
        "tree_depth": stat(3),
    }
    stats |= {"nan_proposal": stat(False), "flip_rate": stat(0.3), "lp": GOOD_ENERGY}
    attrs = {"kernel": "nuts", "biased": "", "tuning": "not JSON", "findings": "[]"}
    assert not un.diagnose(tree(stats, attrs, x=iid(4, 500))).findings
    assert not un.diagnose(
        tree({"acceptance_rate": stat(0.99)}, {"kernel": "ula"}, x=iid(4, 500))
    ).findings


# -- against the density ---------------------------------------------------------------------------
BIAS = {"biased": "ULA does not reject, so that its draws follow another density"}


def test_biased_draws_never_pass_without_the_density():
    draws = tree(attrs=BIAS, x=iid(4, 500, 2))
    only(un.diagnose(draws), BIAS["biased"])
    only(un.diagnose(draws, gaussian), "below what these draws can resolve", "warning")


def test_an_inflated_variance_is_seen_and_its_size_told():
    x = iid(4, 2000, 3)
    x[..., 1] *= np.sqrt(1.3)
    # on a standard Gaussian the mismatch is just that
    size = f"in x[1] (as a Gaussian with variance {x[..., 1].var() - 1:+.2%}"
    only(un.diagnose(tree(attrs=BIAS, x=x), gaussian), size)
    only(un.diagnose(tree(x=x), gaussian), size)


def test_a_shifted_mean_is_seen():
    only(
        un.diagnose(tree(attrs=BIAS, x=iid(4, 2000, 2) + [0.0, 0.2]), gaussian),
        "x[1] (as a Gaussian moved by +0.2",
    )


def test_ula_with_a_coarse_step_is_caught_and_its_bias_is_the_known_one():
    step, precision = 0.5, 1.0
    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 4000, 1))
    for i in range(1, 4000):
        x[:, i] = (1 - step * precision) * x[:, i - 1] + np.sqrt(2 * step) * x[:, i]
    check = stein_check(gaussian.with_dimensions(d=1).for_jit(), {"x": x}, {"x": ["x[0]"]})
    known = -(1 / (1 - step * precision / 2) - 1)  # minus the relative bias of the variance
    assert abs(check.spread[0] - known) < 4 * check.spread_error[0] < 0.1
    assert check.mismatches


def test_exact_draws_pass_steins_check_and_its_errors_are_right():
    p, scores = gaussian.with_dimensions(d=4).for_jit(), []
    for seed in range(60):
        check = stein_check(p, {"x": iid(4, 250, 4, seed=seed)}, {"x": list("abcd")})
        assert not check.mismatches
        scores.append(
            np.stack([check.location / check.location_error, check.spread / check.spread_error])
        )
    spread = np.std(scores, axis=(0, 2))  # of 240 z-scores each: about 1 ± 0.05
    assert (abs(spread - 1) < 0.2).all()


def test_steins_check_holds_in_unconstrained_coordinates_and_at_the_bounds():
    rng = np.random.default_rng(0)
    p = un.Density(lambda x: jnp.log(x) - 3.0 * x, {"x": un.Positive})
    x = rng.gamma(2.0, 1 / 3, (4, 1000))
    assert un.diagnose(tree(attrs=BIAS, x=x), p).passed
    assert not un.diagnose(tree(attrs=BIAS, x=1.2 * x), p).passed
    q = un.Density(lambda x: (0.2 - 1) * jnp.log(x), {"x": un.Interval(0, 1)})
    edge = rng.beta(0.2, 1.0, (4, 1000))
    edge[0, 0] = 1.0
    assert un.diagnose(tree(attrs=BIAS, x=edge), q).passed


def test_simplex_coordinates_are_checked():
    rng = np.random.default_rng(0)
    p = un.Density(lambda w: 3.0 * jnp.log(w).sum(), {"w": un.Simplex["k"]})
    assert un.diagnose(tree(attrs=BIAS, w=rng.dirichlet([4, 4, 4], (4, 1000))), p).passed
    check = un.diagnose(tree(attrs=BIAS, w=rng.dirichlet([4, 4, 6], (4, 1000))), p)
    assert "unconstrained" in told(check, "error")[0]


def test_discrete_variables_are_held_and_alone_do_not_pass():
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, (4, 1000))
    p = un.Density(lambda x, s: -0.5 * (x - s) ** 2, {"x": un.Real, "s": un.Binary})
    assert un.diagnose(tree(attrs=BIAS, x=s + rng.normal(size=s.shape), s=s), p).passed
    only(
        un.diagnose(tree(attrs=BIAS, s=s), un.Density(lambda s: 0.0 * s, {"s": un.Binary})),
        "discrete",
    )


def test_draws_outside_the_support_and_unknown_variables_are_told():
    p = un.Density(lambda x: -x, {"x": un.Positive})
    only(un.diagnose({"x": iid(4, 500)}, p), "outside Positive")
    only(
        un.diagnose({"x": iid(4, 500, 2), "more": iid(4, 500)}, gaussian),
        "no variable more",
        "note",
    )


# -- bad input -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("draws", "p", "kind", "part"),
    [
        (3, None, TypeError, "no posterior group"),
        (tree(x=iid(4, 9))["posterior"], None, ValueError, "no posterior group"),
        ({"x": iid(5)}, None, ValueError, r"expected the axes \(chain, draw"),
        ({"x": iid(4, 5), "y": iid(4, 6)}, None, ValueError, "leading shapes"),
        ({"x": np.full((4, 5), "a")}, None, ValueError, "dtype"),
        ({"x": np.zeros((4, 0))}, None, ValueError, "at least one draw"),
        ({}, None, ValueError, "no variables"),
        ({"y": iid(4, 500)}, gaussian, ValueError, "draws lack x"),
        ({"x": iid(4, 500)}, gaussian, ValueError, "declared"),
        ({"x": iid(4, 500)}, "gaussian", TypeError, "expected a Density"),
    ],
)
def test_bad_input_is_one_sentence(draws, p, kind, part):
    with pytest.raises(kind, match=part) as error:
        un.diagnose(draws, p)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_arviz_is_not_imported_by_declaring():
    code = "import sys, unnorm, unnorm.diagnostics.convergence, unnorm.diagnostics.plots, unnorm.diagnostics.report;"  # noqa: E501
    code += "assert not {'arviz_base', 'arviz_stats', 'matplotlib', 'xarray', 'pandas'} & set(sys.modules)"  # noqa: E501
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
