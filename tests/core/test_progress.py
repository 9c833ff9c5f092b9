"""What a progress bar says while XLA compiles."""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.progress import Bar, CompilingOptions, _compilation_shown


def test_a_bar_says_that_it_compiles_and_about_how_long():
    words = []
    bar = Bar(lambda amount, text: words.append((amount, text)))
    with _compilation_shown(bar, CompilingOptions(least_seconds=0.0)):
        jax.jit(lambda x: jnp.cumsum(jnp.sin(x)) @ x)(np.arange(5.0))
    assert (0, "") in words
    assert any(text.startswith("compiling (about ") and "s, once)" in text for _, text in words)
    count = len(words)
    jax.jit(lambda x: jnp.cumsum(jnp.cos(x)) @ x)(np.arange(5.0))
    assert len(words) == count  # the bar is gone
