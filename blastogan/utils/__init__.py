"""Plain helpers that know nothing of GANs."""
