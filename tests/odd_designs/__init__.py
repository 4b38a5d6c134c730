"""A generator of odd designs, and what every one of them must come to: the right numbers, or a reason.

`designs` draws data tables and formulas that no textbook shows: empty cells, singletons, slopes without intercepts,
effects constant within groups, more effects than rows, y at 1e-12 and 1e12, duplicated rows, one grouping twice, x far
from zero, collinear slopes. `oracle` maximises the likelihood by dense matrices and a search of its own, and evaluates
densities in 40 digits; `checks` compares. ``python -m tests.odd_designs --examples N`` looks for new ones.
"""
