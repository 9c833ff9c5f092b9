"""Training on batches: optimizers, averages, checkpoints, early stopping; weights and clusters;
saved fits."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from targets import ising

import unnorm as un

NETWORK = eqx.nn.MLP(2, "scalar", 16, 1, activation=jnp.tanh, key=jax.random.key(0))


@un.density
def energy(x: un.Real[2], *, network: un.PyTree = NETWORK):
    return network(x) - 0.25 * x @ x


@un.density
def normal(x: un.Real, *, centre: un.Real = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * (x - centre) ** 2


POINTS = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
LENGTHS = np.random.default_rng(1).normal(1.0, 2.0, size=300)
TRAINING = {"steps": 100, "batch_size": 64, "seed": 0, "progress": False}


def train(data=POINTS, objective="nce", **options):
    return un.fit(energy, data, objective, **TRAINING | options)


def same(one, other):
    return np.array_equal(one.history, other.history) and np.array_equal(
        one.density(POINTS), other.density(POINTS)
    )


# -- training --------------------------------------------------------------------------------------
@pytest.mark.parametrize("objective", ["maximum_likelihood", "score_matching"])
@pytest.mark.slow
def test_training_comes_to_the_optimum_of_the_objective(objective):
    """Batches of all rows, redrawn, at a rate that falls to zero: the average is the minimum, to
    its noise."""
    optimum = un.fit(normal, LENGTHS, objective, seed=0, progress=False)
    trained = un.fit(
        normal,
        LENGTHS,
        objective,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 3000)),
        steps=3000,
        batch_size=64,
        seed=0,
        progress=False,
    )
    errors = optimum.summary()["standard_error"]
    assert np.all(
        np.abs(trained.summary()["estimate"] - optimum.summary()["estimate"]) < 0.25 * errors
    )
    assert trained.converged and trained.covariance is None
    assert any("no standard errors" in finding.what for finding in trained.findings)


def test_training_that_has_not_come_to_rest_says_so():
    short = un.fit(normal, LENGTHS + 50, "score_matching", optimizer=optax.sgd(1e-5), **TRAINING)
    assert not short.converged and not short.passed
    assert any("had not come to rest" in finding.what for finding in short.findings)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    fit = train()
    assert same(fit, train()) and not same(fit, train(seed=1))


@pytest.mark.slow
def test_contrastive_divergence_trains_networks():
    kernel = un.kernels.MALA(step_size=0.1)
    fit = train(
        objective=un.objectives.ContrastiveDivergence(
            k=2, persistent=True, chains=64, kernel=kernel
        )
    )
    assert np.isfinite(np.asarray(fit.density(POINTS))).all() and fit.log_z is not None


@pytest.mark.slow
def test_held_out_data_stop_training_that_overfits():
    few = POINTS[:12]
    fit = train(
        few, "score_matching", steps=4000, held_out=POINTS[200:], optimizer=optax.adam(1e-2)
    )
    assert any("held-out loss was best at step" in finding.what for finding in fit.findings)
    assert len(fit.history) < 4000


def test_a_callback_sees_the_losses_and_may_stop():
    seen = []
    fit = train(callback=lambda told: seen.append(told) or told["step"] >= 50)
    assert seen[-1]["step"] == 50 == len(fit.history) and np.isfinite(seen[-1]["loss"])
    assert not fit.converged and any(
        "stopped by callback" in finding.what for finding in fit.findings
    )


class Loader:
    """Batches as a data loader gives them: to be gone through again and again."""

    def __iter__(self):
        return iter(POINTS.reshape(8, 50, 2))


@pytest.mark.slow
def test_data_may_be_an_iterable_of_batches():
    fit = train(Loader())
    assert len(fit.history) == 100 and fit.history[-10:].mean() < fit.history[:10].mean()
    assert same(fit, train(Loader()))
    spent = train(iter(POINTS.reshape(8, 50, 2)))
    assert not spent.converged and any(
        "ran out of batches" in finding.what for finding in spent.findings
    )


def test_a_store_goes_on_to_the_same_bits(tmp_path):
    unbroken, store = train(), tmp_path / "fit.d"
    assert same(unbroken, train(store=store))
    state = json.loads((store / "state.json").read_text())
    (store / "state.json").write_text(
        json.dumps({part: value for part, value in state.items() if int(part) < 20})
    )
    assert same(unbroken, train(store=store))
    with pytest.raises(ValueError, match="options steps is 100"):
        train(store=store, steps=200)
    with pytest.raises(ValueError, match="whose data is"):
        train(POINTS[:300], store=store)


def test_an_interrupt_returns_what_is_there():
    def stop(told):
        if told["step"] == 40:
            raise KeyboardInterrupt

    fit = train(callback=stop)
    assert len(fit.history) == 40 and not fit.converged
    assert any("was interrupted after 40 steps" in finding.what for finding in fit.findings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": 0.1}, "optimizer is 0.1; expected an Optax optimizer"),
        ({"callback": 3}, "callback is 3"),
        ({"optimizer": optax.scale(float("inf"))}, "became NaN or infinite under NCE"),
        ({"held_out": POINTS[:, :1]}, "x has the shape"),
        ({"held_out": POINTS, "objective": "contrastive_divergence"}, "whose loss has no meaning"),
        ({"data": iter([])}, "without a batch"),
        ({"data": iter([POINTS[:50], POINTS[:40]])}, "a batch of the shapes"),
    ],
)
def test_bad_input_of_training_is_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        train(**options)


# -- weights and clusters --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "objective",
    [
        "pseudo_likelihood",
        *(
            pytest.param(o, marks=pytest.mark.slow)
            for o in ("maximum_likelihood", "ratio_matching")
        ),
    ],
)
def test_frequencies_are_rows_repeated(objective):
    rows = un.models.load("rochdale").to_numpy()[:, :4]
    states, counts = np.unique(rows, axis=0, return_counts=True)
    plain, counted = (
        un.fit(ising, data, objective, frequency_weights=weights, seed=0, progress=False)
        for data, weights in ((rows, None), (states, counts))
    )
    np.testing.assert_allclose(counted.summary(), plain.summary(), atol=1e-8)
    assert counted.rows == plain.rows


def test_sampling_weights_move_the_estimate_and_scale_away():
    """The weighted mean and Horvitz and Thompson's error of it: Σ w²(x − m)² / (Σ w)²."""
    weights = np.random.default_rng(2).uniform(0.2, 2.0, len(LENGTHS))
    fits = [
        un.fit(
            normal,
            LENGTHS,
            "maximum_likelihood",
            sampling_weights=c * weights,
            seed=0,
            progress=False,
        )
        for c in (1.0, 7.0)
    ]
    np.testing.assert_allclose(fits[0].summary(), fits[1].summary(), atol=1e-8)
    row = fits[0].summary().loc["centre"]
    mean = np.average(LENGTHS, weights=weights)
    error = np.sqrt((weights**2 * (LENGTHS - mean) ** 2).sum()) / weights.sum()
    np.testing.assert_allclose([row["estimate"], row["standard_error"]], [mean, error], rtol=1e-6)


def test_clusters_widen_the_errors_of_repeated_rows():
    """Every row ten times: with clusters the errors are those of the rows alone, up to the
    correction G / (G − 1)."""
    groups = np.repeat(np.arange(len(LENGTHS)), 10)
    alone = un.fit(normal, LENGTHS, "maximum_likelihood", seed=0, progress=False)
    repeated = un.fit(
        normal, np.repeat(LENGTHS, 10), "maximum_likelihood", cluster=groups, seed=0, progress=False
    )
    ratio = np.sqrt(len(LENGTHS) / (len(LENGTHS) - 1))
    np.testing.assert_allclose(
        repeated.summary()["standard_error"], ratio * alone.summary()["standard_error"], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": [1.0, 2.0]}, r"weights has the shape \(2,\)"),
        ({"weights": -np.ones(300)}, "weights holds -1.0 at row 0"),
        ({"cluster": np.zeros(3)}, r"cluster has the shape \(3,\)"),
        (
            {"weights": np.full(300, 0.5), "objective": "contrastive_divergence"},
            "takes no sampling weights",
        ),
    ],
)
def test_bad_weights_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        un.fit(normal, LENGTHS, **{"objective": "maximum_likelihood", "progress": False} | options)


# -- saved fits ------------------------------------------------------------------------------------
def test_a_saved_fit_is_the_same_fit(tmp_path):
    data = un.models.load("ozone_wind")
    p = un.Density(
        lambda x, *, eta: eta @ x - 0.5 * x @ x,
        {"x": un.Positive["d"]},
        {"eta": (un.Real["d"], 0.0)},
    )
    fit = un.fit(p, data / data.std(ddof=0), "maximum_likelihood", seed=0, progress=False)
    fit.save(tmp_path / "fit.npz")
    again = un.load(tmp_path / "fit.npz", p)
    assert again.summary().equals(fit.summary()) and again.covariance.equals(fit.covariance)
    assert again.log_z == fit.log_z and again.findings == fit.findings and str(again) == str(fit)
    held_out = (data / data.std(ddof=0))[:20]
    assert again.log_likelihood(held_out)[:2] == fit.log_likelihood(held_out)[:2]
    assert [f.name for f in tmp_path.iterdir()] == ["fit.npz"]


@pytest.mark.slow
def test_a_network_is_saved_with_all_its_leaves(tmp_path):
    fit = train(steps=20)
    fit.save(tmp_path / "fit.npz")
    assert same(fit, un.load(tmp_path / "fit.npz", energy))


def test_a_file_of_another_density_or_of_nothing_is_refused(tmp_path):
    un.fit(normal, LENGTHS, "score_matching", progress=False).save(tmp_path / "fit.npz")
    with pytest.raises(
        ValueError, match=r"holds a fit of normal\(centre, precision\), and energy\(network\)"
    ):
        un.load(tmp_path / "fit.npz", energy)
    (tmp_path / "fit.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="holds no fit"):
        un.load(tmp_path / "fit.npz", normal)
    with pytest.raises(ValueError, match="cannot be written"):
        un.fit(normal, LENGTHS, "score_matching", progress=False).save(tmp_path / "no" / "fit.npz")


# -- the bootstrap ---------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_bootstrap_agrees_with_the_sandwich():
    fit = un.fit(normal, LENGTHS, "maximum_likelihood", seed=0, progress=False)
    again = fit.bootstrap(400, seed=1)
    table, ours = again.summary(), fit.summary()
    assert (
        again.infinite == 0
        and not again.parametric
        and again.passed
        and len(again.estimates) == 400
    )
    # A standard deviation of 400 draws is off by some 1 / √800 = 3.5 %; four of these.
    np.testing.assert_allclose(table["standard_error"], ours["standard_error"], rtol=0.14)
    assert (table["lower"] < table["estimate"]).all() and (table["estimate"] < table["upper"]).all()
    assert fit.bootstrap(5, seed=1).estimates.equals(fit.bootstrap(5, seed=1).estimates)


@pytest.mark.slow
def test_chains_have_a_bootstrap_which_agrees_with_the_theory():
    """Contrastive divergence redraws rows and averages anew, with ULA too, for which theory gives
    no errors."""
    one, other = (
        un.fit(
            normal,
            LENGTHS,
            un.objectives.ContrastiveDivergence(k=5, kernel=kernel),
            seed=0,
            progress=False,
        )
        for kernel in (un.kernels.HMC(), un.kernels.ULA(step_size=0.05))
    )
    redrawn = one.bootstrap(100, seed=1).summary()["standard_error"]
    np.testing.assert_allclose(redrawn, one.summary()["standard_error"], rtol=4 / np.sqrt(200))
    assert (
        other.covariance is None
        and (other.bootstrap(20, seed=1).summary()["standard_error"] > 0).all()
    )


def test_what_cannot_be_repeated_has_no_bootstrap(tmp_path):
    with pytest.raises(ValueError, match="cannot be repeated here"):
        train(steps=20).bootstrap(10)
    with pytest.raises(ValueError, match="n is 1"):
        un.fit(normal, LENGTHS, "maximum_likelihood", progress=False).bootstrap(1)
    weighted = un.fit(
        normal, LENGTHS, "maximum_likelihood", weights=np.full(300, 0.5), progress=False
    )
    with pytest.raises(ValueError, match="with sampling weights"):
        weighted.bootstrap(10)
