"""Divergence and collapse during a fit."""
