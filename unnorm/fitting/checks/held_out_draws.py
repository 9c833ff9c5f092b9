"""Draws of a fitted network compared with rows of data: whether training arrived, whatever its loss
says.

Two kinds of draws, one from each of many chains, because they see different faults. Chains that
start at data rows leave them where the density has its mass nearby; if the fit is right they are
draws of it from the first step on, so that the test has its nominal size. A population annealed
from a wide base finds mass that no chain from the data reaches, but may itself miss narrow modes:
beyond three dimensions, where it alone differs and lies where log p̃ is lower than at the data, the
fit is called unverified and not wrong.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import SmoothsData
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel, select_kernel
from unnorm.fitting.inference.simulate_data import data_sets, is_listed
from unnorm.fitting.row_normalizers import covariates_of, latent_variables
from unnorm.partition.annealing.particles import run_adaptive
from unnorm.partition.annealing.tempered import AnnealingPath
from unnorm.partition.annealing.transitions.selection import transitions_for
from unnorm.partition.options import PilotOptions
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.mixture import student_mixture
from unnorm.partition.proposals.user_given import proposal_of_draws
from unnorm.sampling.short_runs import run_rounds
from unnorm.statistics.two_sample import TwoSample, two_sample
from unnorm.supports import PyTreeSupport

_ROWS = (
    400  # rows and draws compared at most: an AUC of .6 is then four standard errors from chance
)
HELD_OUT_SHARE, HELD_OUT_MOST = (
    0.05,
    _ROWS,
)  # of the rows, which are kept out of training for this check
HELD_OUT_LEAST = 50  # rows: with fewer the test has little power, and training rows are compared
# AUC above which a fit is refused: total variation of at least .1, as for a KL divergence near .2
TOLERANCE = 0.6
LEVEL = 0.005  # of each of the two tests
_STEPS = 30  # of adaptation, and then of the chains from the data
# discrete sites beyond which chains take fewer sweeps, which cost an evaluation for each state of
# each
_SITES = 64
_WALKERS, _MOVES = 1_600, 4  # of the annealed population, and their moves at each temperature
_SCALES, _SHARES = (
    (1.0, 3.0, 10.0, 30.0),
    (0.4, 0.2, 0.2, 0.2),
)  # of the base, in units of the data's spread
_BASE_ROWS = 5_000  # that the wide base is fitted to
_FEW = 3  # coordinates, in which a wide base sees every mode and annealing is believed


class Rows(NamedTuple):
    """Events that the fit may be held against, with sampling weights or None."""

    events: dict[str, Any]
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(next(iter(self.events.values())))

    def drawn(self, count: int, rng: np.random.Generator) -> dict[str, Any]:
        """At most `count` different rows; where there are weights about in proportion to them, and
        at most half.
        """
        if self.weights is None:
            chosen = rng.permutation(len(self))[:count]
        else:
            count = max(1, min(count, len(self) // 2, int(np.count_nonzero(self.weights))))
            chosen = rng.choice(
                len(self), count, replace=False, p=self.weights / self.weights.sum()
            )
        return {name: jnp.asarray(value)[chosen] for name, value in self.events.items()}


def is_checked(p) -> bool:
    """Whether a density is trained for what it draws: with a PyTree parameter there is no estimate
    to look at.
    """
    return any(isinstance(support, PyTreeSupport) for support in p.supports.values())


def split_rows(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices of the rows to train on and of those to keep for the check; None where there are too
    few.
    """
    kept = min(int(HELD_OUT_SHARE * rows), HELD_OUT_MOST)
    if kept < HELD_OUT_LEAST:
        return None
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[kept:]), np.sort(order[:kept])


def draws_findings(
    objective, density, training: Rows, compared: Rows, kept: bool, seed: int
) -> list[Finding]:
    """What draws of the fitted density say against it.

    Args:
        objective: it may aim at smoothed data (`smoothing`).
        density: bare, at the fit.
        training: the rows of the training.
        compared: rows that draws are compared with; the same where none were `kept` out of
            training.
        kept: whether they were.
        seed: of rows, chains and permutations.
    """
    if latent_variables(density, training.events):
        what = "draws of the fit were not compared with the data, for variables are latent"
        return [
            Finding(
                what,
                "compare un.sample(fit.density) with them",
                WARNING,
                FindingCode.DRAWS_UNLIKE_DATA,
            )
        ]
    rng, keys = np.random.default_rng(seed), jax.random.split(jax.random.key(seed), 4)
    levels = objective.smoothing if isinstance(objective, SmoothsData) else ()
    starts = _smoothed(density, training.drawn(_ROWS, rng), levels[:1], keys[0])
    near = _from_data(density, starts, keys[1])
    far = (
        None
        if density.covariates
        else _from_noise(density, training.drawn(_BASE_ROWS, rng), _count(starts), keys[2])
    )
    rows = _without_copies(density, compared.drawn(_ROWS, rng))
    targets = [_smoothed(density, rows, (level,), keys[3]) for level in levels] or [rows]
    local = _most_alike(density, targets, near, rng)
    everywhere = None if far is None else _most_alike(density, targets, far, rng)
    reliable = is_listed(density) or Unconstrained(density).dimension <= _FEW
    return _told(_count(rows), kept, local, everywhere, reliable)


# -- draws -----------------------------------------------------------------------------------------
def _from_data(density, starts: dict, key: jax.Array) -> dict:
    """The ends of chains from rows of the data, by the kernel made for the variables, its step size
    adapted before.
    """
    target, own = Unconstrained(density), covariates_of(density, starts)
    positions = target.positions_of(starts)
    kernel = prepare_kernel(select_kernel(None, density), density, own)
    adapt_key, key = jax.random.split(key)
    rounds = _rounds(density)
    run: Any = None
    tuning = initial_tuning(kernel, positions)
    for gain, one in ((1.0, adapt_key), (0.0, key)):
        run = run_rounds(kernel, target, tuning, positions, one, gain, own, rounds=rounds, steps=1)
        tuning = run.tuning
    return target.events_at(run.positions) | own


def _rounds(density) -> int:
    shapes = density.shapes()
    sites = sum(int(np.prod(shapes[name])) for name, s in density.variables.items() if s.discrete)
    return max(4, _STEPS * _SITES // max(sites, _SITES))


def _from_noise(density, rows: dict, count: int, key: jax.Array) -> dict:
    """Draws from the list of all states, or of a population annealed from a wide base around the
    data.
    """
    if is_listed(density):
        return {name: value[0] for name, value in data_sets(density, rows, key, 1, count).items()}
    proposal = _wide_proposal(Unconstrained(density), rows)
    pilot_key, key = jax.random.split(key)
    path, transitions = AnnealingPath(proposal.view, proposal), transitions_for(proposal.view)
    options = PilotOptions(repeats=_MOVES)
    _, population, _ = run_adaptive(path, transitions, pilot_key, _WALKERS, options)
    chosen = jax.random.choice(key, _WALKERS, (count,), replace=False)
    positions = jax.tree.map(lambda leaf: leaf[chosen], population.particles.position)
    return proposal.view.events_at(positions)


def _wide_proposal(target: Unconstrained, rows: dict) -> Proposal:
    """Student's t of the data's mean and covariance at several scales; discrete variables by their
    frequencies.
    """
    draws = {name: np.asarray(value) for name, value in rows.items()}
    proposal = proposal_of_draws(target, draws)
    if not target.dimension:
        return proposal
    flat = np.asarray(jax.vmap(target.flatten)(target.positions_of(rows)), float)
    covariance = np.atleast_2d(np.cov(flat.T))
    covariance += (1e-6 * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    centres = [flat.mean(0)] * len(_SCALES)
    covariances = [scale**2 * covariance for scale in _SCALES]
    return replace(proposal, continuous=student_mixture(list(_SHARES), centres, covariances))


def _smoothed(density, events: dict, levels: tuple, key: jax.Array) -> dict:
    """The events with the noise that the objective adds to them, in unconstrained coordinates."""
    if not levels:
        return events
    positions, keys = (
        Unconstrained(density).positions_of(events),
        jax.random.split(key, len(density.variables)),
    )
    moved = {
        name: value + levels[0] * jax.random.normal(one, value.shape, value.dtype)
        for one, (name, value) in zip(keys, positions.items(), strict=True)
    }
    return events | Unconstrained(density).events_at(moved)


# -- the comparison --------------------------------------------------------------------------------
class Compared(NamedTuple):
    """What the test found, and mean log p̃ at the rows and at the draws."""

    test: TwoSample
    at_rows: float
    at_draws: float

    @property
    def differs(self) -> bool:
        return self.test.p_value <= LEVEL

    @property
    def refused(self) -> bool:
        return self.differs and self.test.auc > TOLERANCE


@jax.jit
def _log_densities(density, events: dict) -> jax.Array:
    return jax.vmap(density.log_density)(events)


def _most_alike(density, targets: list[dict], draws: dict, rng: np.random.Generator) -> Compared:
    """The comparison with the rows that the draws are most like: of several smoothed ones none is
    aimed at alone.
    """
    found = [_compared(density, rows, draws, rng) for rows in targets]
    return min(found, key=lambda one: one.test.auc)


def _compared(density, rows: dict, draws: dict, rng: np.random.Generator) -> Compared:
    values = [np.asarray(_log_densities(density, events), float) for events in (rows, draws)]
    values = [np.where(np.isnan(value), -np.inf, value) for value in values]
    test = two_sample(
        _flat(rows), _flat({name: draws[name] for name in rows}), [np.concatenate(values)], rng
    )
    return Compared(test, *(float(value[np.isfinite(value)].mean()) if np.isfinite(value).any() else -np.inf
                            for value in values))  # fmt: skip


def _without_copies(density, rows: dict) -> dict:
    """Each row once where a variable is continuous: copies, as of frequencies, would be told from
    any draws.
    """
    if not Unconstrained(density).dimension:
        return rows
    first = np.sort(np.unique(_flat(rows), axis=0, return_index=True)[1])
    return {name: value[first] for name, value in rows.items()}


def _flat(events: dict) -> np.ndarray:
    return np.concatenate(
        [np.asarray(value, float).reshape(len(value), -1) for value in events.values()], 1
    )


def _count(events: dict) -> int:
    return len(next(iter(events.values())))


def _told(
    rows: int, kept: bool, local: Compared, everywhere: Compared | None, reliable: bool
) -> list[Finding]:
    """The verdict as a finding: an error where the draws are others than the data, else what was
    seen.
    """
    against = f"against {rows:,} {'held-out' if kept else 'training'} rows"
    train_on = "raise steps, or give another learning rate by optimizer= or a larger network"
    if local.refused:
        return [
            _unlike(
                f"chains that start at the data leave them: {_words(local, against)}",
                train_on,
                ERROR,
            )
        ]
    if everywhere is not None and everywhere.refused:
        what = f"draws annealed from a wide base are unlike the data: {_words(everywhere, against)}"
        if reliable or everywhere.at_draws >= everywhere.at_rows:
            return [_unlike(what, train_on, ERROR)]
        advice = "the density has mass away from the data, or annealing missed some: compare un.sample(fit.density)"
        return [_unlike(f"the fit could not be verified: {what}", advice, WARNING)]
    found = [one for one in (local, everywhere) if one is not None]
    worst = max(found, key=lambda one: (one.differs, one.test.auc))
    if rows < HELD_OUT_LEAST:
        what = f"{rows} rows are too few to compare draws of the fit with: it could not be verified"
        return [_unlike(what, "pass held_out=, or more rows", WARNING)]
    what = f"draws of the fit were compared with data: {_words(worst, against)}"
    if worst.differs:
        return [_unlike(what, "train longer where this matters", WARNING)]
    return [Finding(what, "", NOTE)]


def _unlike(what: str, advice: str, severity: str) -> Finding:
    return Finding(what, advice, severity, FindingCode.DRAWS_UNLIKE_DATA)


def _words(found: Compared, against: str) -> str:
    return (
        f"{against} a classifier has AUC {found.test.auc:.2f} (0.5 is chance; p = "
        f"{found.test.p_value:.2g}), and mean log p̃ is {found.at_rows:.4g} at the rows, "
        f"{found.at_draws:.4g} at the "
        "draws"
    )
