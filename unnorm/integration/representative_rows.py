"""Rows of covariates: how many, and a few that represent all."""

import jax
import numpy as np

from unnorm.declaration.density import Density
from unnorm.integration.options import PLAN


def count_of(rows: dict) -> int:
    """The number of rows."""
    return len(next(iter(rows.values())))


def spread_rows(rows: dict[str, jax.Array], most: int = PLAN.representative_rows) -> list[int]:
    """The numbers of a few rows that represent all: the extremes of every column, then some evenly
    spaced in the order.
    """
    flat = np.concatenate(
        [np.asarray(value, float).reshape(len(value), -1) for value in rows.values()], 1
    )
    flat = flat[:, ~np.isnan(flat).any(0)]  # missing entries have no extremes
    ends = [end for column in flat.T for end in (column.argmin(), column.argmax())]
    evenly = np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(int)
    half = most // 2 if len(ends) > most // 2 else len(ends)
    chosen = np.linspace(0, len(ends) - 1, half).astype(int)
    return list(dict.fromkeys([*(int(ends[i]) for i in chosen), *map(int, evenly)]))[:most]


def at_rows(
    density: Density, rows: dict[str, jax.Array], most: int = PLAN.representative_rows
) -> list[Density]:
    """The densities at a few rows that represent all."""
    return [
        density._at_row({name: value[i] for name, value in rows.items()})
        for i in spread_rows(rows, most)
    ]
