"""Measures FID, KID and related metrics during a fit and in a test."""
