"""Faults of a disk, for the tests of stores: calls that fail or kill at a chosen moment; jobs to be
killed."""

import errno
import os
import signal
import sys

import numpy as np
from targets import gaussian

import unnorm as un
from unnorm.sampling.output import atomic_files

CALLS = ("open", "posix_fallocate", "fsync", "replace", "unlink")
RUN = {"draws": 2000, "warmup": 200, "chains": 2, "thin": 20, "seed": 1, "progress": False}
POINTS = np.random.default_rng(0).normal(size=400)
TRAINING = {"steps": 20_000, "batch_size": 64, "seed": 0, "progress": False}


class FaultyDisk:
    """The module `os` as `files` sees it, in which call number `at` does `fault` in place of its
    work."""

    def __init__(self, at=None, fault=None):
        self.at, self.fault, self.count = at, fault, 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments, **named):
            if name != "open" or arguments[1] & os.O_CREAT:  # what only reads is let be
                self.count += 1
                if self.count == self.at:
                    self.fault()
            return real(*arguments, **named)

        return call


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@un.density
def normal(x: un.Real, *, centre: un.Real = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * (x - centre) ** 2


def sampled(store=None):
    return un.sample(gaussian, "mala", store=store, **RUN).posterior["x"].values


def trained(store=None):
    fit = un.fit(normal, POINTS, "score_matching", store=store, **TRAINING)
    return np.concatenate([fit.history, fit.summary()["estimate"]])


JOBS = {"sampled": sampled, "trained": trained}

if __name__ == "__main__":
    job, store, at = sys.argv[1:]
    if int(at):
        atomic_files.os = FaultyDisk(int(at), die)
    JOBS[job](store)
