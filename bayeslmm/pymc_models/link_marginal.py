"""The marginal variant where the outcome isn't Gaussian: the effects integrated out by Laplace or by quadrature."""

from __future__ import annotations

from typing import Any

import pymc as pm
import pytensor.tensor as pt

from bayeslmm.design.parameters import coords
from bayeslmm.integration.choice import Rule
from bayeslmm.integration.objective import Problem
from bayeslmm.priors.resolve import Priors
from bayeslmm.pymc_models.expressions import ONE, flatten_factors, random_effects_draw
from bayeslmm.pymc_models.integral_op import IntegralOp
from bayeslmm.pymc_models.link_joint import own_parameters
from bayeslmm.pymc_models.outcomes import random_outcome
from bayeslmm.pymc_models.parameters import declare_coefficients, declare_deviations, declare_factors


def build_link_marginal(problem: Problem, priors: Priors, rule: Rule) -> pm.Model:
    """Build the marginal model; parameters, their names and priors are those of the joint.

    Parameters
    ----------
    rule : Rule
        How the effects are integrated out, and where Newton's method begins.

    Returns
    -------
    pm.Model
        Free variables beta, sigma_u2, ..., the factors of the correlations, the family's parameters; observed y.
    """
    design, family, outcome = problem.rows.design, problem.family, problem.outcome
    with pm.Model(coords=coords(design)) as model:
        y_data = pm.Data("y_data", outcome.y, dims="row")
        beta = declare_coefficients(design, priors)
        stated = declare_factors(design, priors, declare_deviations(design, priors))
        pairs = zip(stated, priors.effect_maps, strict=True)
        factors = [F if W is None else pt.as_tensor_variable(W) @ F for F, W in pairs]
        own = own_parameters(model, design, family, outcome, priors, beta)
        fixed = design.X @ beta if design.p else pt.zeros(design.n)
        if design.offset is not None:
            fixed = design.offset + fixed
        integral = IntegralOp(problem, rule.approximation, rule.start)
        constants = integral.constants()
        draw = random_outcome(family, outcome)
        k = len(factors)

        def logp(value, fixed, *rest):
            lam = flatten_factors(problem.rows.maps, rest[:k])
            found: Any = integral(value, fixed, lam, coordinates(own, rest[k:]), *constants)
            return found[0]

        def dist(fixed, *rest):
            eta = fixed + random_effects_draw(design, rest[:k], ONE)
            return draw(eta, *rest[k:])

        shapes = ["(n)", *["(r,s)"] * k, *("(k)" if x.type.ndim else "()" for x in own)]
        pm.CustomDist(
            "y", fixed, *factors, *own, logp=logp, dist=dist, class_name="MarginalOutcome", observed=y_data,
            dims="row", signature=f"{','.join(shapes)}->(n)",
        )  # fmt: skip
    return model


def coordinates(own: Any, values: Any) -> Any:
    """The dispersion's coordinates of the family's parameters, as `Family.dispersion_values` maps them back."""
    if not own:
        return pt.zeros((0,))
    if own[0].type.ndim:  # ascending thresholds
        cuts = values[0]
        return pt.concatenate([cuts[:1], pt.log(cuts[1:] - cuts[:-1])])
    return pt.log(pt.stack(list(values)))
