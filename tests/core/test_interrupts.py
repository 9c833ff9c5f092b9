"""Ctrl-C is served, also where Python drops it."""

import os
import signal
import time

import pytest

import unnorm as un
from unnorm.core.interrupts import interrupt_served, interrupts_kept, raise_pending

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def pythons_own_handler():
    """A process that a shell started in the background ignores Ctrl-C, and so would the verbs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Dropped:
    """An object in whose destructor Ctrl-C arrives: Python prints the error and goes on."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


def test_an_interrupt_that_python_drops_is_raised_by_the_verb():
    def log_density(x):
        Dropped()
        return -0.5 * x**2

    with pytest.raises(KeyboardInterrupt):
        un.log_z(un.Density(log_density, {"x": un.Real}), seed=0, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    raise_pending()  # nothing is left


def test_an_interrupt_that_was_served_is_forgotten():
    with interrupts_kept():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        except KeyboardInterrupt:
            interrupt_served()
        raise_pending()


def test_a_handler_of_the_users_stays():
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    with interrupts_kept():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert seen == [1]
