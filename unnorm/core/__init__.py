"""What every room uses: options, findings, validation, messages, and the few touches of JAX's
insides.
"""
