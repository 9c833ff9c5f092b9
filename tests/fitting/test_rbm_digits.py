"""Case D of the known answers: a restricted Boltzmann machine on the binarised 8×8 digits, its Z
exact."""

import numpy as np
import optax
import pytest
from log_z_targets import HIDDEN, digits, joint_machine, log_z_of_machine
from log_z_targets import machine as rbm

import unnorm as un

CD = un.objectives.ContrastiveDivergence
EPOCHS = 200


def test_log_z_by_hidden_states_is_that_of_the_visible_ones():
    rng = np.random.default_rng(0)
    values = {
        "weights": rng.normal(size=(3, 7)),
        "visible": rng.normal(size=7),
        "hidden": rng.normal(size=3),
    }
    exact = un.log_z(rbm.bind(**values), "exact", seed=0, progress=False)
    assert log_z_of_machine(**values) == pytest.approx(exact.value, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [rbm, joint_machine], ids=["summed out", "clamped"])
@pytest.mark.parametrize("objective", [CD(), CD(k=10), CD(persistent=True, chains=100)], ids=str)
def test_the_digits_are_learned_by_contrastive_divergence(objective, machine):
    """The recipe of the known answer: 200 epochs of batches of 100, at a rate that falls from 0.1
    to 0.

    The hidden units are summed out, or latent, with chains of their own at every image, which is
    held.
    """
    train, test = digits()
    rng, share = np.random.default_rng(0), (train.sum(0) + 0.5) / (len(train) + 1)
    start = {
        "weights": 0.01 * rng.normal(size=(HIDDEN, 64)),
        "visible": np.log(share / (1 - share)),
    }
    fit = un.fit(
        machine,
        {"v": train},
        objective,
        start=start | {"hidden": np.zeros(HIDDEN)},
        batch_size=100,
        steps=EPOCHS * 15,
        optimizer=optax.sgd(optax.linear_schedule(0.1, 0.0, EPOCHS * 15)),
        seed=0,
        progress=False,
    )
    values = fit.density.parameters
    log_likelihood = np.asarray(rbm.bind(**values)(test), float) - log_z_of_machine(**values)
    print("test log-likelihood per image", log_likelihood.mean())
    assert log_likelihood.mean() > -19.4
    assert fit.covariance is None  # no standard error is asked of 1,104 parameters
