"""Log densities of a PyMC model as graphs, for the price of one: its walk through the model is what takes long."""

from __future__ import annotations

import pymc as pm
from pymc.pytensorf import gradient, rewrite_pregrad


def log_densities(model: pm.Model, jacobian: bool = True):
    """Log density of everything, and of y given the rest."""
    each = dict(zip(model.basic_RVs, model.logp(sum=False, jacobian=jacobian), strict=True))
    return sum(x.sum() for x in each.values()), each[model["y"]].sum()


def slopes(value, model: pm.Model):
    """The gradient of a value by everything that is free, one after another, as `Model.dlogp` has it."""
    return gradient(rewrite_pregrad(value), model.value_vars)
