"""The posterior is calibrated: over data drawn from the prior, the truth's rank is uniform; and wrong ones are seen.

A hundred fits of two models here; ``python -m tests.calibration`` has all models, paths and sizes.
"""

from __future__ import annotations

import numpy as np
import pytest
from calibration.fits import TOP, calibrate, judge
from calibration.ranks import holm, uniformity
from calibration.studies import STUDIES

from bayeslmm.posterior import collapsed_sampler
from bayeslmm.posterior.collapsed import CollapsedPosterior


def smallest(name: str, fits: int) -> tuple[float, str]:
    """The smallest corrected p-value of a study, and whose it is."""
    table = judge([calibrate(STUDIES[name], "collapsed", fits, seed=1)])
    row = table.sort_values("p").iloc[0]
    return float(row["corrected"]), str(row["quantity"])


@pytest.mark.parametrize("name", ["slope", "crossed"])
def test_truths_rank_uniformly_in_the_collapsed_posterior(name):
    p, _ = smallest(name, 100)
    assert p > 0.01


class VarianceForSD(CollapsedPosterior):
    """The prior of an SD is evaluated at the variance."""

    def log_prior(self, x):
        sds = np.exp(self.to_log(x)[0][..., self.sd_positions])
        return super().log_prior(x) + self.priors.sds.logpdf(sds**2) - self.priors.sds.logpdf(sds)


class NoJacobian(CollapsedPosterior):
    """The density of the SDs is taken for that of their coordinates."""

    def log_prior(self, x):
        return super().log_prior(x) - self.to_log(x)[1]


class PluggedIn(CollapsedPosterior):
    """The coefficients are set to their estimate instead of integrated out: ML in the place of REML."""

    def log_likelihood(self, phi, logdet, T, conditional):
        integrated = 2 * np.log(np.einsum("bii->bi", conditional.root)).sum(axis=1)
        return super().log_likelihood(phi, logdet, T, conditional) + 0.5 * integrated


# as many fits as make p-values a tenth of what is asked, so that no single rank decides
@pytest.mark.parametrize(("wrong", "fits"), [(VarianceForSD, 80), (NoJacobian, 80), (PluggedIn, 30)])
def test_planted_errors_fail(monkeypatch, wrong, fits):
    def planted(stats, priors):
        right = sampling_posterior(stats, priors)
        return wrong(**{field: getattr(right, field) for field in right.__dataclass_fields__})

    sampling_posterior = collapsed_sampler.collapsed_posterior
    monkeypatch.setattr(collapsed_sampler, "collapsed_posterior", planted)
    p, quantity = smallest("pairs", fits)
    assert p < 0.01
    assert quantity.startswith("sigma")


def test_uniform_ranks_pass_and_others_fail():
    """P-values are uniform themselves, and small for a shift, a spread and a missed tail."""
    rng = np.random.default_rng(3)
    p = np.array([uniformity(rng.integers(0, TOP + 1, 200), TOP) for _ in range(400)])
    # 400 p-values: the share below each level is known to 4 standard errors
    for level in (0.05, 0.2, 0.5):
        assert abs((p < level).mean() - level) < 4 * np.sqrt(level * (1 - level) / p.size)
    even = np.arange(1000) % (TOP + 1)
    assert uniformity(even, TOP) > 0.99
    assert uniformity(even // 2, TOP) < 1e-4
    assert uniformity(np.where(even < 5, TOP // 2, even), TOP) < 1e-4


def test_a_correction_for_many_quantities():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("name", STUDIES)
def test_priors_are_those_that_the_truths_are_drawn_from(name):
    """Every parameter of the model has the study's prior, as it is written there; none is a default."""
    study = STUDIES[name]
    truth, y = study.simulate(np.random.default_rng(1))
    lmm = study.lmm(y)
    assert {row.source for row in lmm.priors.reasons} == {"given"}
    assert np.array_equal(lmm.design.X, study.X)
    # the dense log likelihood is that of the model: the formulas in two places agree
    assert np.isfinite(study.log_likelihood(truth, y)).all()
