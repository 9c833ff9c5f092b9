# ruff: noqa: UP037, B008
"""Declarations under `from __future__ import annotations`, and at module level, for test_density.py
to read."""

from __future__ import annotations

from typing import Annotated

import jax
import numpy as np

import unnorm as un


@un.density
def annotated(
    x: Annotated[jax.Array, un.Binary["d"]], *, field: Annotated[jax.Array, un.Real["d"]] = 0.0
):
    """Independent bits."""
    return field @ x


@un.density
def schools(
    theta: un.Real[" school"], *, y: un.Constant["school "] = np.arange(3.0), tau: un.Positive = 2.0
):
    return -(((y - theta) / tau) ** 2).sum()


def local_import():
    import unnorm as local_name

    @local_name.density
    def inner(x: local_name.Real, *, scale: local_name.Positive = 1.0):
        return -((x / scale) ** 2)

    return inner


def enclosed(support):
    @un.density
    def inner(x: support):
        return inner(x) if False else -(x**2)  # its own name: an empty cell while it is declared

    return inner


def unresolvable():
    def inner(x: Reel):
        return x

    return un.density(inner)


def by_someone_else():
    Binary = "a local name that must not shadow the module's own"  # noqa: F841
    un_ = un
    return un_.density(plain)


def plain(x: un.Binary["d"]):
    return x.sum()


class Holder:
    @un.density
    def held(x: un.Real):
        return -x * x


product = annotated * annotated.rename(x="z")
overwritten = un.density(plain)
