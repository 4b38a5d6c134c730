"""Outcome families: what y is, given the linear predictor; one file a family, one line each in `registry`."""
