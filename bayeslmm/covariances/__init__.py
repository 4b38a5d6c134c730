"""Covariances as strategies: one file each, which says all that depends on it."""
