"""The evidence lower bound: its encoders against probabilistic principal components, whose
log-likelihood is exact (Tipping and Bishop 1999), and the estimates of an encoder's score.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.fitting.objectives.variational.draws import (
    RowNormals,
    draw,
    normals,
    upper_log_probs,
)
from unnorm.fitting.objectives.variational.encoder import start_encoder
from unnorm.fitting.objectives.variational.entropy import (
    sliced_loss,
    start_score_network,
    stein_scores,
)

ELBO = un.objectives.EvidenceLowerBound
LOADINGS, NOISE = np.random.default_rng(0).normal(size=(4, 2)), 0.6


@un.density(log_z=0.0)
def components(
    x: un.Real[4], z: un.Real[2], *, loadings: un.Real[4, 2] = LOADINGS, noise: un.Positive = NOISE
):
    residual = (x - loadings @ z) / noise
    return -0.5 * (z @ z + residual @ residual) - 4 * jnp.log(noise) - 3 * jnp.log(2 * jnp.pi)


def log_likelihoods(p, x):
    loadings, noise = p.parameters["loadings"], p.parameters["noise"]
    covariance = loadings @ loadings.T + noise**2 * np.eye(4)
    squares = np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x)
    return -0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1])


def posteriors(p, x):
    """The mean at every row and the precision of z given x, which is normal."""
    loadings, noise = p.parameters["loadings"], p.parameters["noise"]
    precision = np.eye(2) + loadings.T @ loadings / noise**2
    return x @ loadings / noise**2 @ np.linalg.inv(precision), precision


def divergence(mean, scale, posterior_mean, precision):
    """KL(N(mean, scale²) ‖ the posterior), the axes of the first being those of z."""
    apart = mean - posterior_mean
    squares = np.einsum("ni,ij,nj->n", apart, precision, apart)
    trace = (scale**2 * np.diag(precision)).sum(-1)
    logs = 2 * np.log(scale).sum(-1) + np.linalg.slogdet(precision)[1]
    return 0.5 * (trace + squares - 2 - logs)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    return rng.normal(size=(400, 2)) @ LOADINGS.T + NOISE * rng.normal(size=(400, 4))


def trained(rows, encoder, steps, **options):
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))
    objective = ELBO(encoder, width=16, depth=1)
    given = {"optimizer": optimizer, "steps": steps, "seed": 0, "progress": False} | options
    return un.fit(components, {"x": rows}, objective, **given)


def bound_of(fit):
    (finding,) = [one for one in fit.findings if one.code == FindingCode.LIKELIHOOD_BOUND]
    words = finding.what.split()
    return float(words[words.index("least") + 1]), float(
        words[words.index("error") + 1].strip("),")
    )


@pytest.fixture(scope="module")
def gaussian(rows):
    return trained(rows, "gaussian", 300, batch_size=64)


def gaussian_bound(fit, rows):
    """The evidence lower bound of a Gaussian encoder in closed form."""
    state = fit._origin.loss.state
    encoder = state.nuisance["encoder"]
    with jax.enable_x64(True):
        inputs = state.shared.inputs(fit.density, {"x": rows})
        located = encoder.location(encoder.features(inputs))
    mean, scale = (np.asarray(part, float) for part in located)
    apart = divergence(mean, scale, *posteriors(fit.density, rows))
    return (log_likelihoods(fit.density, rows) - apart).mean()


def test_the_bound_is_the_log_likelihood_less_the_divergence_from_the_posterior(rows, gaussian):
    bound, error = bound_of(gaussian)
    assert abs(bound - gaussian_bound(gaussian, rows)) < 4 * error
    assert bound - log_likelihoods(gaussian.density, rows).mean() < 4 * error
    assert gaussian.log_z.value == 0


def test_held_out_rows_stop_it_and_are_what_the_bound_is_of(rows):
    seen = []
    fit = trained(
        rows[:300], "gaussian", 100, batch_size=64, held_out={"x": rows[300:]}, callback=seen.append
    )
    bound, error = bound_of(fit)
    assert {"held_out", "loss", "density"} <= set(seen[-1])
    exact = log_likelihoods(fit.density, rows[300:]).mean()
    assert bound - exact < 4 * error


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["gaussian", "score_matching", "stein"])
def test_every_encoder_learns_the_components(rows, encoder):
    """The maximum of the likelihood is known (Tipping and Bishop 1999), and so is the divergence of
    the best Gaussian along the axes of z; the loadings may rotate until that is zero.
    """
    fit = trained(rows, encoder, 3000, batch_size=None if encoder == "gaussian" else 64)
    exact = log_likelihoods(fit.density, rows).mean()
    values = np.linalg.eigvalsh(rows.T @ rows / len(rows))
    noise = values[:2].mean()
    best = -0.5 * (np.log(2 * np.pi * np.array([noise, noise, *values[2:]])).sum() + 4)
    bound, error = bound_of(fit)
    assert bound - exact < 4 * error
    at_truth = log_likelihoods(components, rows).mean()
    # Stein's estimator is biased: its fit is better than the truth, its encoder than at the start
    assert best - exact < (1.0 if encoder == "stein" else 0.1) * (best - at_truth)
    if encoder == "gaussian":
        assert abs(bound - gaussian_bound(fit, rows)) < 4 * error
        assert bound - at_truth > 4 * error
        return
    mean, precision = posteriors(fit.density, rows)
    axes = divergence(mean, np.diag(precision) ** -0.5, mean, precision).mean()
    started = divergence(np.zeros((1, 2)), np.ones((1, 2)), mean, precision).mean()
    assert exact - bound + 4 * error < (started if encoder == "stein" else axes)


# -- scores and entropies of an encoder ------------------------------------------------------------
@pytest.fixture(scope="module")
def linear():
    """An encoder with m = B ε and s = 0.5, whose q is normal for every x."""
    encoder = start_encoder(jax.random.key(0), 3, 2, 2, 8, 1, np.float32)
    # silu(a + t) − silu(a − t) ≈ t near 0: pairs of small weights make it linear
    weight = jnp.array([[1.0, 0.5], [0.0, 1.0]], np.float32)
    small = 1e-2
    noise = small * jnp.concatenate([jnp.eye(2), -jnp.eye(2), jnp.zeros((4, 2))])
    last = jnp.zeros((4, 8)).at[:2, :2].set(weight / small).at[:2, 2:4].set(-weight / small)
    bias = jnp.array([0.0, 0.0, np.log(0.5), np.log(0.5)], np.float32)
    joint = encoder.joint._replace(weight=jnp.zeros((8, 8)))
    encoder = encoder._replace(
        noise=noise, joint=joint, last=encoder.last._replace(weight=last, bias=bias)
    )
    covariance = weight @ weight.T + 0.25 * jnp.eye(2)
    features = encoder.features(jnp.zeros((20, 3), np.float32))
    shapes = [(50, 4), (50, 20, 3)]
    flat = normals(jax.random.key(1), 20, shapes, np.float32)
    drawn = draw(encoder, features, flat[:, :200].reshape(20, 50, 4))
    return encoder, features, covariance, drawn, flat[:, 200:].reshape(20, 50, 20, 3)


def test_the_location_is_exact_for_a_linear_encoder(linear):
    encoder, features, covariance, *_ = linear
    mean, scale = jax.jit(encoder.location)(features)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    np.testing.assert_allclose(scale[0], np.sqrt(np.diag(covariance)), rtol=1e-3)


def test_the_upper_bound_of_log_q_is_tight_and_above(linear):
    encoder, features, covariance, drawn, given = linear
    found = np.asarray(jax.jit(upper_log_probs)(encoder, features, drawn, given))
    z = np.asarray(drawn.z)
    squares = np.einsum("nmi,ij,nmj->nm", z, np.linalg.inv(covariance), z)
    exact = -0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1])
    apart = found - exact
    assert apart.mean() > -4 * apart.std() / np.sqrt(apart.size)
    # tighter than the same bound with noise drawn from N(0, I), not about what explains z
    prior = np.random.default_rng(0).normal(size=(20, 50, 20, 2))
    noise = np.concatenate([np.asarray(drawn.noise)[:, :, None], prior], 2)
    offsets = z[:, :, None] - noise @ np.array([[1.0, 0.5], [0.0, 1.0]]).T
    logs = -0.5 * np.sum(offsets**2, -1) / 0.25 - np.log(2 * np.pi * 0.25)
    plain = special.logsumexp(logs, -1) - np.log(21) - exact
    gain = plain - apart
    assert gain.mean() > 4 * gain.std() / np.sqrt(gain.size)


def test_the_score_network_and_steins_estimator_have_the_exact_entropy_gradient(linear):
    """−E[score · ∂z] for z → A z is −E[score z'] = I, the gradient of log |det A|; Stein's solve
    (K + η I) scores = −⟨∇, K⟩ with a kernel of the median squared distance.
    """
    encoder, features, _, drawn, _ = linear
    _, scale = jax.jit(encoder.location)(features)
    u = drawn.z / scale[:, None]
    key, directions_key = jax.random.split(jax.random.key(2))
    size = features.shape[1]
    network = jax.jit(lambda key: start_score_network(key, size, 2, 16, np.float32))(key)
    directions = jax.random.rademacher(directions_key, u.shape, u.dtype)
    optimizer = optax.adam(1e-2)

    def step(carry, _):
        network, moments = carry
        slope = jax.grad(sliced_loss)(network, u, features, directions)
        update, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(network, update), moments), None

    @jax.jit
    def trained(network):
        start = network, optimizer.init(network)
        (network, _), _ = jax.lax.scan(step, start, length=200)
        return network(u, features), stein_scores(u, 0.05)

    by_network, by_stein = trained(network)
    flat = np.asarray(u).reshape(-1, 2)
    exact_score = -flat @ np.linalg.inv(np.cov(flat.T))
    for scores in (by_network, by_stein):
        products = np.einsum("ni,nj->nij", np.asarray(scores).reshape(-1, 2), flat)
        exact = np.einsum("ni,nj->nij", exact_score, flat)
        error = products.std(0) / np.sqrt(len(flat))
        assert np.all(np.abs(products.mean(0) - exact.mean(0)) < 4 * error)
    apart = np.asarray(u[0], float)[:, None] - np.asarray(u[0], float)
    squares = np.sum(apart**2, -1)
    width = np.median(squares[~np.eye(50, dtype=bool)])
    kernel = np.exp(-0.5 * squares / width)
    slopes = (kernel[:, :, None] * apart / width).sum(1)
    solved = np.linalg.solve(kernel + 0.05 * np.eye(50), -slopes)
    np.testing.assert_allclose(by_stein[0], solved, atol=50 * np.finfo(np.float32).eps / 0.05)


def test_the_gaussian_encoder_draws_no_noise():
    encoder = start_encoder(jax.random.key(0), 3, 2, 0, 8, 1, np.float32)
    assert RowNormals.shapes(1, False, encoder, 16) == [(1, 2), (0, 2), (1, 0, 1)]


# -- refusals --------------------------------------------------------------------------------------
def test_what_it_does_not_serve_is_refused_in_a_sentence(rows):
    free = un.Density(lambda x, z: -(x**2) - z**2, {"x": un.Real, "z": un.Real}, {})
    mixed = un.Density(
        lambda x, s, *, a: -a * (x - s) ** 2,
        {"x": un.Real, "s": un.Categorical(2000)},
        {"a": (un.Positive, 1.0)},
        log_z=lambda a: 0.5 * jnp.log(np.pi / a),
    )
    learns = un.Density(lambda x, z, *, a: -a * (x - z) ** 2 - z**2, free.variables, {"a": un.Real})
    for p, data, word in (
        (learns.bind(a=1.0), {"x": rows[:, 0]}, "declares none"),
        (mixed, {"x": rows[:, 0]}, "continuous"),
        (components, {"x": rows, "z": rows[:, :2]}, "latent"),
        (components, {"x": np.where(rows > 2, np.nan, rows)}, "missing"),
        (components, {"x": rows[:1]}, "1 row"),
    ):
        with pytest.raises(ValueError, match=word):
            un.fit(p, data, ELBO(), steps=5, seed=0, progress=False)
    for options, word in (({"encoder": "normal"}, "encoder"), ({"draws": 0}, "draws")):
        with pytest.raises(ValueError, match=word):
            ELBO(**options)
