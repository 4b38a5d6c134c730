"""NUTS's coordinates for the joint model: the same density of u, whatever the coordinates."""

import numpy as np
import pytest
from pytensor.compile.mode import Mode

from bayeslmm.priors.defaults import row_variances
from bayeslmm.pymc_models.joint import build_joint
from bayeslmm.theory import density
from tests.registry import BY_NAME
from tests.structured import Structured


def as_written(case):
    """The model with priors of its own parameters, so that they are the free variables."""
    design = case.lmm().design
    priors = {"beta": "Normal(mu=0, sigma=2)"} | {
        f"sigma_{level.name}": "HalfNormal(sigma=2)" for level in design.levels
    }
    return case.lmm(priors=priors)


CASES = {
    "nested": BY_NAME["nested in three"],
    "slopes": BY_NAME["slope"],
    "nested and crossed with slopes": BY_NAME["nested and crossed with slopes"],
    "related groups": Structured(levels="kinship", residual="weights"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_density_is_that_of_u_times_the_change_of_volume(case):
    """log p(y | u) + log p(u) + log |du / dt|; u is linear in t, so that unit steps give du / dt exactly."""
    lmm = as_written(CASES[case])
    model = build_joint(lmm.design, lmm.priors, scaled=True)
    levels = lmm.design.levels
    free = [model[f"t_{level.name}"] for level in levels]
    wanted = ["beta", "sigma", *(f"sigma_{level.name}" for level in levels), *(level.name for level in levels)]
    factors = [model[f"corr_{level.name}_factor"] for level in levels if level.correlated]
    density_of_effects = [model[f"density_of_z_{level.name}"] for level in levels]
    outputs = model.replace_rvs_by_values([*[model[name] for name in wanted], *factors, *density_of_effects])
    outputs.append(model.logp(vars=[model["y"]], jacobian=False))
    run = model.compile_fn(outputs, mode=Mode(linker="py", optimizer=None), on_unused_input="ignore")
    rng = np.random.default_rng(1)
    sizes = {"beta": lmm.design.p} | {f"sigma_{level.name}_log__": level.r for level in levels}
    point = {
        v.name: 0.4 * rng.normal(size=[sizes[v.name] if size is None else size for size in v.type.shape])
        for v in model.value_vars
    }

    def effects(values):
        return np.concatenate([u.ravel() for u in values[2 + len(levels) : 2 + 2 * len(levels)]])

    here = run(point)
    columns = []
    for t in free:
        for index in np.ndindex(point[t.name].shape):
            moved = {name: np.array(value) for name, value in point.items()}
            moved[t.name][index] += 1.0
            columns.append(effects(run(moved)) - effects(here))
    volume = np.linalg.slogdet(np.array(columns).T)[1]
    beta, sigma = here[:2]
    roots = iter(here[2 + 2 * len(levels) : 2 + 2 * len(levels) + len(factors)])
    blocks = []
    for level, sd in zip(levels, here[2 : 2 + len(levels)], strict=True):
        F = np.atleast_1d(sd)[:, None] * (next(roots) if level.correlated else np.eye(level.r)) / sigma
        K = np.eye(level.m) if level.root is None else level.root @ level.root.T
        blocks.append(np.kron(K, F @ F.T))
    q = sum(len(block) for block in blocks)
    G, at = np.zeros((q, q)), 0
    for block in blocks:
        G[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    design = lmm.design
    root = np.sqrt(row_variances(design.residual))  # in units of which the rows have one variance
    y, X, Z = design.y / root, design.X / root.reshape(-1, 1), design.Z.toarray() / root.reshape(-1, 1)
    expected = density.joint_logpdf(y, X, Z, beta, effects(here), float(sigma) ** 2, G)
    expected -= np.log(root).sum() * (1 if root.size > 1 else design.n)
    found = sum(float(x) for x in here[-1 - len(levels) :])
    assert found == pytest.approx(expected + volume, rel=1e-9)
