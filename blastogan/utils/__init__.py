"""Plain helpers that know nothing about GANs."""
