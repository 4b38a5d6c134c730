"""The joint and the marginal model in PyMC."""
