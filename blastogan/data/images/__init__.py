"""Decoding and framing of one image file."""
