"""Structures of R, the residuals' covariance: a file each, and `registry` with a line each."""
