"""Multilevel models whose outcome isn't Gaussian, as users meet them."""
