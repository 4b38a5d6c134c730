"""Outcomes that aren't Gaussian: the integral over effects, by Laplace and by quadrature, and its maximum."""
