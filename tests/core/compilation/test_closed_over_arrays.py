"""NumPy arrays in users' functions serve single and double precision, wherever they stand."""

import functools
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.compilation.closed_over_arrays import call_by_precision

FIELD = np.array([0.1, -1.7, 2.3])  # no numbers of single precision
TABLES = types.ModuleType("tables")
TABLES.field = FIELD.copy()


def _energy(field, x):
    return jnp.sum(field * x) - jnp.sum(x * x)


def _closure():
    field = FIELD.copy()
    return lambda x: _energy(field, x)


def _global():
    return lambda x: _energy(FIELD, x)


def _default():
    def energy(x, field=FIELD.copy()):  # noqa: B008
        return _energy(field, x)

    return lambda x: energy(x)


def _module():
    return lambda x: _energy(TABLES.field, x)


def _jitted():
    field = FIELD.copy()
    inner = jax.jit(lambda x: _energy(field, x))
    return lambda x: inner(x)


def _partial():
    inner = functools.partial(_energy, FIELD.copy())
    return lambda x: inner(x)


def _containers():
    fields = {"parts": [(FIELD.copy(), 1), (FIELD.copy(), 2)]}
    return lambda x: sum(_energy(part, x) / k for part, k in fields["parts"])


class _Model:
    def __init__(self):
        self.field = FIELD.copy()

    def energy(self, x):
        return _energy(self.field, x)


def _attribute():
    model = _Model()
    return lambda x: model.energy(x)


PLACES = [_closure, _global, _default, _module, _jitted, _partial, _containers, _attribute]


@pytest.mark.parametrize("order", [(True, False), (False, True)])
@pytest.mark.parametrize("place", [*PLACES, lambda: _Model().energy])
def test_an_array_is_traced_in_either_precision_after_the_other(place, order):
    p = un.Density(place(), {"x": un.Real[3]})
    at = np.array([1.0, 2.0, 3.0])
    # The containers hold two such sums, weighted by 1 and 1 / 2.
    expected = (FIELD @ at - at @ at) * (1.5 if place is _containers else 1.0)
    programs = []  # kept alive, and their constants with them
    for double in order:
        with jax.enable_x64(double):
            programs.append(jax.jit(lambda x: p.log_density({"x": x})))
            value = programs[-1](jnp.asarray(at, float))
        assert value.dtype == (jnp.float64 if double else jnp.float32)
        assert abs(float(value) - expected) < (1e-13 if double else 1e-5)


def test_one_array_is_one_constant_however_often_it_is_traced():
    field = FIELD.copy()
    p = un.Density(lambda x: _energy(field, x), {"x": un.Real[3]})

    def twice(x):
        return p.log_density({"x": x}) + jax.grad(lambda y: p.log_density({"x": y}))(x).sum()

    constants = jax.make_jaxpr(twice)(jnp.ones(3)).consts
    assert len({id(one) for one in constants}) == len(constants) <= 1


def test_a_function_sees_later_changes_of_its_array():
    field = FIELD.copy()

    def total():
        return float(field.sum())

    call_by_precision(total, [], {})
    field[0] += 1.0
    assert call_by_precision(total, [], {}) == field.sum()
    field = np.ones(2)
    assert call_by_precision(total, [], {}) == 2.0


def test_an_array_is_freed_with_its_function():
    def make():
        field = FIELD.copy()
        return (lambda: field), weakref.ref(field)

    function, reference = make()
    call_by_precision(function, [], {})
    assert reference() is not None
    del function
    assert reference() is None


def test_functions_that_assign_and_functions_without_arrays_stay_themselves():
    count, field = 0, FIELD

    def counting():
        nonlocal count
        count += 1
        return field

    assert call_by_precision(counting, [], {}) is FIELD and count == 1
    seen = []
    call_by_precision(lambda: seen.append(1), [], {})
    assert seen == [1]
