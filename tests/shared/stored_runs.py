"""A short run of one variable, for the tests of stores."""

import unnorm as un

RUN = {"draws": 60, "warmup": 20, "chains": 2, "seed": 1, "progress": False}


@un.density
def line(x: un.Real):
    return -0.5 * x**2


def run(p=line, kernel="mala", **options):
    return un.sample(p, kernel, **RUN | options)
