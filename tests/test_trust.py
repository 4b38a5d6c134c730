"""R-hat and effective sample size are ArviZ's; a judgement says what is wrong and nothing else."""

import arviz as az
import numpy as np
import pytest

from bayeslmm.posterior import trust


def chains(rho, ties=False, shape=(4, 501)):
    """Autoregressive draws of unit innovations."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape)
    for t in range(1, shape[1]):
        x[:, t] += rho * x[:, t - 1]
    return np.round(x, 1) if ties else x


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("ties", [False, True])
def test_diagnostics_are_those_of_arviz(rho, ties):
    x = chains(rho, ties)
    assert trust.rhat(x[..., None])[0] == pytest.approx(az.rhat(x), rel=1e-12)
    assert trust.ess(x[..., None])[0] == pytest.approx(az.ess(x), rel=0.02)


def tree(values, diverging=None, **attrs):
    shape = values["sigma"].shape
    diverging = np.zeros(shape, dtype=bool) if diverging is None else diverging
    out = az.from_dict({"posterior": values, "sample_stats": {"diverging": diverging}})
    out.attrs |= attrs
    return out


def test_good_draws_are_trusted_whatever_the_random_effects_do():
    good = {"sigma": np.exp(chains(0.0)), "u2": np.ones((4, 501, 3))}
    assert trust.judge(tree(good)) == trust.Judgement()


def test_each_fault_is_named_with_its_parameter():
    stuck = chains(0.0)
    stuck[0] += 2
    found = trust.judge(tree({"sigma": np.exp(chains(0.0)), "beta": stuck[..., None]})).text
    assert "R-hat reaches" in found
    assert "(beta[0])" in found
    slow = trust.judge(tree({"sigma": chains(0.95)})).text
    assert "the smallest effective sample size is" in slow
    assert "Pareto k of 0.81" in trust.judge(tree({"sigma": chains(0.0)}, pareto_k=0.81)).text
    assert "does not move" in trust.judge(tree({"sigma": np.ones((4, 501))})).text
    three = np.arange(4 * 501).reshape(4, 501) < 3
    assert "3 of 2004 draws diverged" in trust.judge(tree({"sigma": chains(0.0)}, three)).text


def test_correlations_are_judged_once_and_without_their_diagonal():
    r = np.tanh(chains(0.0))
    matrix = np.stack([np.stack([np.ones_like(r), r], -1), np.stack([r, np.ones_like(r)], -1)], -2)
    names, draws = trust.parameters(tree({"sigma": chains(0.0), "corr_u2": matrix}))
    assert sorted(names) == ["corr_u2[0, 1]", "sigma"]
    assert draws.shape == (4, 501, 2)


def test_few_draws_or_one_chain_are_unknown_and_not_a_doubt():
    few = trust.judge(tree({"sigma": chains(0.99, shape=(4, 40))}, np.ones((4, 40), dtype=bool)))
    one = trust.judge(tree({"sigma": chains(0.0, shape=(1, 2000))}))
    assert few.doubts == one.doubts == ()
    assert "with 160 draws" in few.unknown
    assert "takes two chains" in one.unknown
    assert not few.trusted
    assert not one.trusted
