"""
Handwritten digits by a restricted Boltzmann machine
====================================================

1,797 digits of 8 × 8 binary pixels. A restricted Boltzmann machine with 16 hidden units, summed
out, has 1,104 parameters. It is trained by persistent contrastive divergence on mini-batches. Z
can still be computed exactly, as a sum over the 2^16 states of the hidden units.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import unnorm as un

HIDDEN = 16


@un.density
def machine(
    v: un.Binary["pixel"],
    *,
    weights: un.Real["unit", "pixel"],
    visible: un.Real["pixel"],
    hidden: un.Real["unit"],
):
    return visible @ v + jnp.sum(jax.nn.softplus(hidden + weights @ v))


pixels = un.models.load("digits").drop(columns="digit").to_numpy()
train, test = pixels[:1500], pixels[1500:]
rng, share = np.random.default_rng(0), (train.sum(0) + 0.5) / (len(train) + 1)
start = {
    "weights": 0.01 * rng.normal(size=(HIDDEN, 64)),
    "visible": np.log(share / (1 - share)),
    "hidden": np.zeros(HIDDEN),
}
fit = un.fit(
    machine,
    train,
    un.objectives.ContrastiveDivergence(persistent=True, chains=100),
    start=start,
    batch_size=100,
    steps=3000,
    optimizer=optax.sgd(optax.linear_schedule(0.1, 0.0, 3000)),
    seed=0,
)
print(repr(fit))


# %%
# Held-out images: the log-likelihood with the exact Z, beside that of independent pixels.
def log_z(weights, visible, hidden):
    """log Σ_h exp(h'hidden) Π_i (1 + exp(visible_i + h'w_i))."""
    parts = []
    for states in np.array_split(np.arange(2**HIDDEN), 32):
        on = (states[:, None] >> np.arange(HIDDEN)) & 1
        parts.append(
            np.logaddexp.reduce(on @ hidden + np.logaddexp(0, visible + on @ weights).sum(1))
        )
    return np.logaddexp.reduce(parts)


z = log_z(**fit.density.parameters)
log_p = np.asarray(fit.density(test), float) - z
alone = test @ np.log(share) + (1 - test) @ np.log(1 - share)
print(f"log Z {z:.3f}")
print(f"log-likelihood of a held-out image: {log_p.mean():.2f}")
print(f"of independent pixels: {alone.mean():.2f}")

# %%
# Annealed importance sampling, which does not use the hidden units, gives the same log Z within
# its error.
print(un.log_z(fit.density, un.estimators.AIS(), seed=0))

# %%
# Images of the training data, images drawn from the machine, and the weights of its sixteen hidden
# units.
tree = un.simulate(fit, rows=30, replicates=1, seed=0, progress=False)
simulated = tree["posterior_predictive"]["v"].to_numpy()[0, 0]
from matplotlib import colormaps

figure = plt.figure(figsize=(9, 3.2), layout="constrained")
figure.get_layout_engine().set(wspace=0.06)
weights = fit.density.parameters["weights"]
panels = (
    ("data", train[:30], 5, 6, "gray_r"),
    ("drawn", simulated, 5, 6, "gray_r"),
    ("units", weights, 4, 4, "RdBu_r"),
)
for ax, (name, images, tall, wide, colors) in zip(
    figure.subplots(1, 3, width_ratios=[55, 55, 46]), panels, strict=True
):
    board = np.full((tall * 9 + 1, wide * 9 + 1), np.nan)  # with lines between the images
    for at, image in enumerate(np.asarray(images, float)):
        row, column = 9 * (at // wide) + 1, 9 * (at % wide) + 1
        board[row : row + 8, column : column + 8] = image.reshape(8, 8)
    limit = np.nanmax(np.abs(board))
    shades = colormaps[colors].with_extremes(bad="#cccccc")
    ax.imshow(
        board,
        cmap=shades,
        vmin=-limit if name == "units" else 0,
        vmax=limit,
        interpolation="nearest",
    )
    ax.set_title(name, fontsize=10)
    ax.set_axis_off()

# %%
# Data: Alpaydin and Kaynak (1998), doi:10.24432/C50P49. Model: Hinton (2002),
# doi:10.1162/089976602760128018. Persistent chains: Tieleman (2008), doi:10.1145/1390156.1390290.
