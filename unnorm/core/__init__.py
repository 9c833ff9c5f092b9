"""What every room uses: options, findings, validation, messages, and the few touches of JAX's
insides.
"""

from unnorm.core.jax_compat import avoid_wrong_fusions

avoid_wrong_fusions()
