"""Seconds of a whole fit, its standard errors and log Z included, after a first call that
compiles."""

import numpy as np

import unnorm as un
from benchmarks.harness import medians, table

SIZE, ROWS = 50, 100_000


@un.density
def graphical(x: un.Real["d"], *, precision: un.Symmetric(diagonal=True)["d"] = 1.0):
    """A Gaussian graphical model: 1,275 parameters, whose score is linear in them."""
    return -0.5 * x @ precision @ x


@un.density
def ising(x: un.Binary["d"], *, coupling: un.Symmetric["d"] = 0.0, field: un.Real["d"] = 0.0):
    return field @ x + 0.5 * x @ coupling @ x


def of_graphical(turn: int):
    rng = np.random.default_rng(turn)
    chain = np.eye(SIZE) + 0.4 * (np.eye(SIZE, k=1) + np.eye(SIZE, k=-1))
    data = rng.normal(size=(ROWS, SIZE)) @ np.linalg.cholesky(np.linalg.inv(chain)).T
    return lambda: un.fit(graphical, data, "score_matching", seed=0, progress=False)


def main() -> None:
    sets = {turn: of_graphical(turn) for turn in range(6)}
    rochdale = un.models.load("rochdale")
    found = medians(
        {
            f"Gaussian graphical model, {SIZE} variables, {ROWS:,} rows, score matching": lambda turn: (  # noqa: E501
                sets[turn]()
            ),
            "Rochdale, 36 parameters, pseudo-likelihood": lambda turn: un.fit(
                ising, rochdale, "pseudo_likelihood", seed=turn, progress=False
            ),
            "Rochdale, maximum likelihood": lambda turn: un.fit(
                ising, rochdale, "maximum_likelihood", seed=turn, progress=False
            ),
        },
        5,
    )
    print(
        table(["fit", "seconds", "asked"], [[name, f"{s:.2f}", "1"] for name, s in found.items()])
    )


if __name__ == "__main__":
    main()
