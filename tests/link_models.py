"""Models of other outcomes than the Gaussian, and trees as sample() makes them, without sampling."""

from __future__ import annotations

from functools import cache

import xarray as xr
from test_glmm import table

import bayeslmm as blm
from bayeslmm.criticism.link_groups import complete_link
from bayeslmm.criticism.link_prior import link_prior_predictive


def fake(model: blm.GLMM, draws: int = 30, seed: int = 1, size: float = 1.0) -> xr.DataTree:
    """A tree as sample() makes it, without sampling: draws from the prior, or nearer to zero."""
    made = link_prior_predictive(model, draws, random_seed=seed)["prior"].to_dataset()
    made = made.assign(
        {name: made[name] * size for name in made.data_vars if name.startswith(("beta", "u", "sigma_u"))}
    )
    tree = xr.DataTree.from_dict({"/posterior": made})
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("row", model.outcome.y)}))
    tree.attrs |= {"variant": "joint", "family": str(model.family), "trusted": 1, "doubts": ""}
    return complete_link(model, tree)


@cache
def cbpp(link: str = "logit") -> blm.GLMM:
    data = table("cbpp").assign(well=lambda d: d["size"] - d["incidence"])
    return blm.GLMM("cbind(incidence, well) ~ period + (1 | herd)", data, family=f"binomial({link})")


@cache
def epil(family: str = "poisson", formula: str = "y ~ lbase * trt + (1 | subject)") -> blm.GLMM:
    return blm.GLMM(formula, table("epil"), family=family)


@cache
def wine(link: str = "logit") -> blm.GLMM:
    return blm.GLMM("rating ~ temp + contact + (1 | judge)", table("wine"), family=f"cumulative({link})")


SLOPES_MODEL = "y ~ lbase + Visit + (Visit | subject)"
