"""Covariances of effects: every structure keeps the identities that the rest of the program rests on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import bayeslmm as blm
from bayeslmm.covariances.effects.registry import EFFECTS, ENTIRELY_KNOWN
from bayeslmm.criticism.sensitivity import log_prior
from bayeslmm.errors import DataError, DescriptionError, PriorError
from bayeslmm.posterior.collapsed import collapsed_posterior

EVERY = [*EFFECTS.values(), ENTIRELY_KNOWN]
CURVED = ["cs", "ar1"]
TIMES = 4


def sizes(structure) -> list[int]:
    return [1] if structure is ENTIRELY_KNOWN else [r for r in (1, 2, 3, 5) if r >= structure.least]


EVERY_SIZE = [pytest.param(one, r, id=f"{one.name}-{r}") for one in EVERY for r in sizes(one)]


def correlations(name: str, rho: float, r: int = TIMES) -> np.ndarray:
    apart = abs(np.subtract.outer(np.arange(r), np.arange(r)))
    return rho**apart if name == "ar1" else np.where(apart == 0, 1.0, rho)


def repeated(name: str, rows: int = 2, groups: int = 30) -> pd.DataFrame:
    """Groups whose effects of four times vary together as the structure says."""
    rng = np.random.default_rng(7)
    sd = np.array([1.0, 1.5, 2.0, 0.8]) if name == "cs" else np.full(TIMES, 1.3)
    u = rng.multivariate_normal(np.zeros(TIMES), np.outer(sd, sd) * correlations(name, 0.6), size=groups)
    table = pd.DataFrame(
        {"g": np.repeat(np.arange(groups), TIMES * rows), "t": np.tile(np.repeat(np.arange(TIMES), rows), groups)}
    )
    table["y"] = 3 + u[table.g, table.t] + 0.7 * rng.normal(size=len(table))
    return table


@pytest.fixture(scope="module", params=CURVED)
def lmm(request) -> blm.LMM:
    return blm.LMM(f"y ~ 1 + {request.param}(0 + C(t) | g)", repeated(request.param))


@pytest.fixture(scope="module")
def tree(lmm):
    return lmm.sample(draws=400, chains=4, random_seed=1, progress=False)


def structure_of(model: blm.LMM):
    return model.design.levels[0].structure


class TestEveryStructure:
    @pytest.mark.parametrize(("structure", "r"), EVERY_SIZE)
    def test_the_root_is_one_of_correlations_and_leads_back_to_its_coordinates(self, structure, r):
        z = np.random.default_rng(r).normal(size=structure.n_correlations(r))
        L = structure.root(z, r)
        assert np.allclose(np.diag(L @ L.T), 1, atol=1e-14)
        assert np.allclose(structure.coordinates(L), z, atol=1e-7)
        assert structure.correlation_values(L @ L.T).shape == (len(structure.correlation_labels("u2", ["a"] * r)),)

    @pytest.mark.parametrize(("structure", "r"), EVERY_SIZE)
    def test_theta_leads_back_to_the_same_covariance(self, structure, r):
        rng = np.random.default_rng(r)
        z = rng.normal(size=structure.n_correlations(r))
        sd = np.broadcast_to(rng.uniform(0.5, 2, structure.n_sds(r) or 1), r)
        lam = (sd if structure.n_sds(r) else np.ones(r))[:, None] * structure.root(z, r)
        theta = structure.theta(lam)
        assert len(theta) == len(structure.theta_labels([f"e{k}" for k in range(r)]))
        back = structure.from_theta(theta, r)
        assert np.allclose(back @ back.T, lam @ lam.T, atol=1e-12)

    @pytest.mark.parametrize(("structure", "r"), EVERY_SIZE)
    def test_the_charts_gradient_is_that_of_its_factor(self, structure, r):
        rng = np.random.default_rng(r)
        M = np.triu(rng.normal(size=(r, r)), 1) + np.diag(rng.uniform(0.5, 2, r))
        chart = structure.chart(M, 1.7)
        entries, bar = rng.uniform(0.3, 1.2, chart.size), rng.normal(size=r * r)
        around = np.concatenate([entries + 1e-6 * np.eye(chart.size), entries - 1e-6 * np.eye(chart.size)])
        up, down = np.split(chart.factors(around) @ bar, 2)
        assert np.allclose(chart.pull(entries, bar), (up - down) / 2e-6, atol=1e-7)
        assert chart.sds.sum() == structure.n_sds(r)

    @pytest.mark.parametrize("r", [2, 3, 5])
    @pytest.mark.parametrize("name", CURVED)
    def test_the_prior_of_a_correlation_integrates_to_one(self, name, r):
        structure = EFFECTS[name]
        prior = blm.Prior("Uniform", lower=structure.lower(r), upper=1)
        z = np.linspace(-20, 20, 4001)
        assert np.trapezoid(np.exp(structure.log_prior(prior, z[:, None], r)), z) == pytest.approx(1, abs=1e-6)
        C = structure.draw(prior, np.random.default_rng(1), 5, r)
        assert np.linalg.eigvalsh(C).min() > 0


class TestLikelihood:
    def test_it_is_the_dense_one_at_a_maximum_of_it(self, lmm):
        name, y, Z = structure_of(lmm).name, lmm.y.to_numpy(), lmm.Z.toarray()
        fit = lmm.ml()
        V = fit.sigma**2 * (Z @ np.kron(np.eye(30), fit.lambdas[0] @ fit.lambdas[0].T) @ Z.T + np.eye(len(y)))
        mean = np.full(len(y), fit.beta[0])
        assert fit.loglik == pytest.approx(multivariate_normal(mean, V).logpdf(y), abs=1e-9)
        one = Z[: 2 * TIMES, :TIMES]

        def deviance(x: np.ndarray) -> float:
            """The same by numbers of its own: b, log SDs, arctanh rho, log sigma."""
            C = correlations(name, np.tanh(x[-2]))
            if np.linalg.eigvalsh(C)[0] < 1e-9:
                return 1e10
            sd = np.exp(x[1:-2]) * np.ones(TIMES)
            B = one @ (np.outer(sd, sd) * C) @ one.T + np.exp(2 * x[-1]) * np.eye(len(one))
            rest = y.reshape(30, -1) - x[0]
            return 30 * np.linalg.slogdet(2 * np.pi * B)[1] + np.einsum("gi,ij,gj->", rest, np.linalg.inv(B), rest)

        start = np.concatenate([[3.0], np.zeros(TIMES if name == "cs" else 1), [0.3, 0.0]])
        best = minimize(deviance, start, method="BFGS")
        assert fit.status.name == "converged"
        assert -2 * fit.loglik == pytest.approx(best.fun, abs=1e-6)

    # library(glmmTMB); data(sleepstudy, package = "lme4")            # glmmTMB 1.1.5
    # sleepstudy$half <- factor(sleepstudy$Days %/% 2); sleepstudy$third <- factor(pmin(sleepstudy$Days %/% 4, 2))
    # m <- glmmTMB(Reaction ~ Days + ar1(half + 0 | Subject), sleepstudy, REML = FALSE)    # and cs(third + 0 | Subject)
    # v <- VarCorr(m)$cond[[1]]; c(logLik(m), attr(v, "stddev"), attr(v, "correlation")[2, 1], sigma(m))
    @pytest.mark.parametrize(
        ("term", "method", "loglik", "estimates"),
        [
            ("ar1(0 + half | Subject)", "ml", -876.7538209, [21.60448378, 42.92313679, 0.8416811352]),
            ("ar1(0 + half | Subject)", "reml", -872.4564425, [21.6045054, 44.13028957, 0.847339654]),
            (
                "cs(0 + third | Subject)",
                "ml",
                -873.2995808,
                [23.69415391, 25.75104153, 43.1810107, 58.20329339, 0.8000819186],
            ),
            (
                "cs(0 + third | Subject)",
                "reml",
                -869.4976141,
                [23.72986152, 26.62867668, 44.02151606, 59.29596642, 0.8023270361],
            ),
        ],
    )
    def test_it_is_glmmTMBs(self, term, method, loglik, estimates, sleepstudy_table):
        fit = getattr(blm.LMM(f"Reaction ~ Days + {term}", sleepstudy_table), method)()
        assert fit.loglik == pytest.approx(loglik, abs=1e-6)
        assert fit.estimates().iloc[2:].to_numpy() == pytest.approx(estimates, rel=2e-5)  # where glmmTMB stops

    def test_with_two_effects_compound_symmetry_is_any_covariance(self):
        data = repeated("cs").query("t < 2")
        fits = [blm.LMM(f"y ~ 1 + {name}(0 + C(t) | g)", data).reml() for name in ("cs", "us")]
        assert fits[0].loglik == pytest.approx(fits[1].loglik, abs=1e-7)
        assert fits[0].theta.size == fits[1].theta.size == 3

    def test_homogeneous_compound_symmetry_is_an_intercept_and_cells_within_groups(self):
        """Where the correlation is positive: (1 | g) + (1 | g:t) has the same V."""
        data = repeated("homcs")
        one = blm.LMM("y ~ 1 + homcs(0 + C(t) | g)", data).ml()
        two = blm.LMM("y ~ 1 + (1 | g) + (1 | g:t)", data).ml()
        shared, own = two.sds[0][0] ** 2, two.sds[1][0] ** 2
        assert one.loglik == pytest.approx(two.loglik, abs=1e-8)
        assert one.estimates()["rho_u2"] == pytest.approx(shared / (shared + own), abs=1e-5)

    def test_a_correlation_at_its_end_and_one_of_effects_that_do_not_vary_are_singular(self):
        """No flat direction: the first is on its edge, and the second changes nothing where its SD is zero."""
        rng = np.random.default_rng(16)
        data = repeated("ar1", groups=12)
        alternating = data.assign(y=(-1.0) ** data.t * rng.normal(size=12)[data.g] + 0.5 * rng.normal(size=len(data)))
        fit = blm.LMM("y ~ 1 + ar1(0 + C(t) | g)", alternating).ml()
        assert (fit.status.name, fit.boundary) == ("singular", ("rho_u2",))
        centred = data.assign(y=rng.normal(size=len(data)))
        centred["y"] -= centred.groupby(["g", "t"])["y"].transform("mean")
        fit = blm.LMM("y ~ 1 + ar1(0 + C(t) | g)", centred).ml()
        assert (fit.status.name, fit.boundary) == ("singular", ("sigma_u2",))

    def test_confidence_limits_hold_the_estimate_and_are_those_of_the_profile(self, lmm):
        fit = lmm.ml()
        limits = fit.confint()
        assert list(limits.index) == list(fit.estimates().index)
        assert ((limits["lower"] < limits["estimate"]) & (limits["estimate"] < limits["upper"])).all()
        wald = fit.confint(method="wald").loc["rho_u2"]
        assert limits.loc["rho_u2", ["lower", "upper"]].to_numpy(float) == pytest.approx(
            wald[["lower", "upper"]].to_numpy(float),
            abs=0.1,  # 30 groups: the profile is not quite a parabola
        )

    def test_lambda_is_that_of_theta(self, lmm):
        fit = lmm.ml()
        whole = lmm.Lambda(fit.theta).toarray()[:TIMES, :TIMES]
        assert np.allclose(whole @ whole.T, fit.lambdas[0] @ fit.lambdas[0].T, atol=1e-12)

    def test_what_is_printed_names_the_structure(self, lmm):
        assert f"rho = {lmm.ml().estimates()['rho_u2']:.3f}" in repr(lmm.ml())
        assert structure_of(lmm).text in lmm.describe()


class TestPosterior:
    def test_its_variables_have_the_structures_names(self, lmm, tree):
        posterior = tree["posterior"]
        assert posterior["corr_u2"].dims[2:] == ("u2_effect", "u2_effect_bis")
        assert posterior["rho_u2"].dims == ("chain", "draw")
        assert posterior["sigma_u2"].sizes.get("u2_effect", 1) == structure_of(lmm).n_sds(TIMES)
        C = np.array([correlations(structure_of(lmm).name, rho) for rho in posterior["rho_u2"].values.ravel()[:50]])
        assert np.allclose(posterior["corr_u2"].values.reshape(-1, TIMES, TIMES)[:50], C, atol=1e-12)

    def test_the_pymc_model_has_its_density(self, lmm, tree):
        """Between two draws the log density of y differs as the dense normal's does."""
        values = {name: x.values.reshape(-1, *x.shape[2:])[:2] for name, x in tree["posterior"].items()}
        model = lmm.marginal()
        untransformed = pm.model.transform.conditioning.remove_value_transforms(model)
        logp = untransformed.compile_fn(
            untransformed.logp(jacobian=False), inputs=untransformed.value_vars, point_fn=False, mode="FAST_COMPILE"
        )
        names = [untransformed.values_to_rvs[value].name for value in untransformed.value_vars]
        found = [float(logp(*(np.asarray(values[name][k], dtype=float) for name in names))) for k in range(2)]
        prior = sum(x.reshape(2, -1).sum(axis=1) for x in log_prior(lmm, values).values())
        y, X = lmm.y.to_numpy(), lmm.X.to_numpy()
        dense = []
        for k in range(2):
            V = dense_V(lmm, {name: x[k] for name, x in values.items()})
            dense.append(multivariate_normal(X @ values["beta"][k], V).logpdf(y) + prior[k])
        assert found[1] - found[0] == pytest.approx(dense[1] - dense[0], abs=1e-6)
        assert "rho_u2" in lmm.joint().named_vars

    def test_the_collapsed_gradient_is_that_of_its_density(self, lmm):
        posterior = collapsed_posterior(lmm.statistics, lmm.priors)
        x = posterior.start() + 0.1
        gradient = posterior.value_and_gradient(x)[1]
        step = 1e-5 * np.eye(x.size)
        up, down = posterior.evaluate(x + step)[0], posterior.evaluate(x - step)[0]
        assert gradient == pytest.approx((up - down) / 2e-5, abs=1e-4)

    def test_it_is_near_the_likelihoods_estimates(self, lmm, tree):
        estimate, draws = lmm.reml().estimates()["rho_u2"], tree["posterior"]["rho_u2"].values
        assert abs(draws.mean() - estimate) < draws.std()

    def test_new_groups_vary_as_the_structure_says(self, lmm, tree):
        new = {"g": ["new"] * TIMES, "t": list(range(TIMES))}
        drawn = lmm.predict(tree, new, allow_new_groups=True, random_seed=1)
        x = drawn.values.reshape(-1, TIMES) - tree["posterior"]["beta"].values.reshape(-1, 1)
        rho = float(tree["posterior"]["rho_u2"].mean())
        # correlations of 1,600 draws have errors of at most 1/40, and there is rho's own spread
        assert abs(np.corrcoef(x.T) - correlations(structure_of(lmm).name, rho)).max() < 0.15

    def test_prior_draws_and_the_tables_know_them(self, lmm, tree):
        assert "rho_u2" in lmm.priors.table()["parameter"].tolist()
        assert {"rho_u2", "sigma_u2"} <= set(lmm.prior_predictive(20, random_seed=1)["prior"].data_vars)
        found = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants=["marginal"], progress=False)
        assert "rho_u2" in found.table.index


def dense_V(lmm: blm.LMM, values: dict[str, np.ndarray]) -> np.ndarray:
    Z, sd = lmm.Z.toarray(), np.broadcast_to(values["sigma_u2"], TIMES)
    G = np.kron(np.eye(30), np.outer(sd, sd) * values["corr_u2"])
    return Z @ G @ Z.T + values["sigma"] ** 2 * np.eye(len(Z))


class TestDescription:
    @pytest.mark.parametrize("name", CURVED)
    def test_formula_keywords_and_dict_say_the_same(self, name):
        formula = blm.Hierarchy.from_formula(f"y ~ 1 + {name}(0 + t | a/b)")
        levels = [blm.Level(group=group, effects="0 + t", structure=name) for group in (("b", "a"), ("a",))]
        assert formula == blm.Hierarchy(response="y", levels=tuple(levels))
        assert formula.to_formula() == f"y ~ 1 + {name}(0 + t | b:a) + {name}(0 + t | a)"
        assert blm.Hierarchy.from_formula(formula.to_formula()) == formula == blm.Hierarchy.from_dict(formula.to_dict())
        assert f'structure = "{name}"' in formula.to_toml()

    def test_old_ways_of_saying_it_are_the_same(self):
        assert blm.Level(group="g", effects="x", structure="diag") == blm.Level(
            group="g", effects="x", correlated=False
        )
        texts = [("us(x | g)", "(x | g)"), ("diag(x | g)", "(x || g)")]
        for named, plain in texts:
            assert blm.Hierarchy.from_formula(f"y ~ {named}") == blm.Hierarchy.from_formula(f"y ~ {plain}")

    def test_it_is_read_from_toml(self, tmp_path):
        path = tmp_path / "m.toml"
        path.write_text('formula = "y ~ 1 + ar1(0 + C(t) | g)"\ndata = "d.csv"\n')
        repeated("ar1").to_csv(tmp_path / "d.csv", index=False)
        assert blm.LMM.from_toml(path).hierarchy.levels[0].structure == "ar1"
        path.write_text('response = "y"\ndata = "d.csv"\n[[levels]]\ngroup = "g"\nstructure = "ar2"\n')
        with pytest.raises(DescriptionError, match=r"line 5.*'ar2'.*one of.*\"ar1\""):
            blm.LMM.from_toml(path)

    def test_a_spline_of_that_name_stays_one(self):
        """cs() without a bar is formulaic's cubic spline."""
        assert blm.Hierarchy.from_formula("y ~ cs(x, df=3) + (1 | g)").fixed == "1 + cs(x, df=3)"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("y ~ cs(x || g)", r"`\|\|` says that effects are independent"),
            ("y ~ ar1(x)", "write it around one, as in ar1"),
            ("y ~ ar1(cs(x | g))", "the covariance of a group term"),
        ],
    )
    def test_formulas_that_make_no_sense(self, text, said):
        with pytest.raises(DescriptionError, match=said):
            blm.Hierarchy.from_formula(text)

    def test_words_for_what_does_not_go(self):
        with pytest.raises(DescriptionError, match=r"[Dd]id you mean 'ar1'"):
            blm.Level(group="g", effects="0 + t", structure="ar")
        with pytest.raises(DescriptionError, match="correlated=False"):
            blm.Level(group="g", effects="0 + t", structure="cs", correlated=False)
        with pytest.raises(DataError, match=r"The term ar1\(1 \| g\) has one effect.*2 effects or more"):
            blm.LMM("y ~ ar1(1 | g)", repeated("ar1"))
        with pytest.raises(PriorError, match=r"between -0.3333 and 1"):
            blm.LMM("y ~ cs(0 + C(t) | g)", repeated("cs"), priors={"rho_u2": "Uniform(lower=-1, upper=1)"})


@pytest.fixture(scope="module")
def sleepstudy_table() -> pd.DataFrame:
    from pathlib import Path

    table = pd.read_csv(Path(__file__).parents[1] / "models" / "data" / "sleepstudy.csv")
    return table.assign(half=(table.Days // 2).astype(str), third=np.minimum(table.Days // 4, 2).astype(str))
