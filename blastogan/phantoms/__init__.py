"""Phantoms: procedural blastocysts, drawings that are called so wherever they are shown."""
