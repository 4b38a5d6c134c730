"""The model as users meet it: a description, its data and priors, and every variant one call away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.description.hierarchy import Hierarchy, Residual
from bayeslmm.design.design import build_design
from bayeslmm.errors import DescriptionError, visible
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.likelihood.fit import theta_labels
from bayeslmm.model import Model
from bayeslmm.support.arguments import check_centered, check_flag, check_list
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

    from bayeslmm.criticism.implied_priors import ImpliedPriors


class LMM(Model):
    """A multilevel linear mixed model: y = X beta + Z u + e, u ~ N(0, sigma^2 G), e ~ N(0, sigma^2 R).

    Parameters
    ----------
    hierarchy : Hierarchy or str
        The description, or an lme4 formula.
    data : pandas, polars or pyarrow frame, or a mapping of columns
    priors : mapping, optional
        By name: a column of X or "beta", "sigma", "sigma_u2", "corr_u2", ...; the rest get defaults (`lmm.priors`).
    missing : {"error", "drop"}
        What to do with rows that have missing values.
    residual : Residual, optional
        Beside a formula: what it can't say of R.
    covariance, precision : mapping, optional
        Beside a formula: from a grouping ("animal") or a level ("u2") to its known matrix.
    offset : str
        Beside a formula: a part of the mean with the coefficient 1, such as "log(n)"; the same as a term
        ``offset(log(n))``.

    Raises
    ------
    DescriptionError, DataError, PriorError
        Before anything is compiled.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("yield_ ~ 1 + (1 | batch)", {"yield_": [1.0, 2, 4, 5, 8, 9], "batch": list("aabbcc")})
    >>> lmm.reml().fixef.round(3).to_dict()
    {'Intercept': 4.833}
    """

    def __init__(
        self,
        hierarchy: Hierarchy | str,
        data: Any,
        *,
        priors: Mapping[str, Any] | None = None,
        missing: str = "error",
        residual: Residual | None = None,
        covariance: Mapping[str, Any] | None = None,
        precision: Mapping[str, Any] | None = None,
        offset: str = "",
    ):
        if isinstance(hierarchy, str):
            hierarchy = Hierarchy.from_formula(
                hierarchy, residual=residual, covariance=covariance, precision=precision, offset=offset
            )
        elif not (residual is None and covariance is None and precision is None and offset == ""):
            raise DescriptionError(
                "residual=, covariance=, precision= and offset= stand beside a formula only; a Hierarchy has them as "
                "its parts, such as Level(group='animal', covariance=K)."
            )
        if not isinstance(hierarchy, Hierarchy):
            raise DescriptionError(
                f"The description is a {type(hierarchy).__name__}; a Hierarchy or a formula was expected, "
                "such as LMM('y ~ 1 + x + (1 | group)', data)."
            )
        with enough_memory(doing="Reading the data"), one_blas_thread():
            design = build_design(hierarchy, data, missing=missing)
        super().__init__(hierarchy=hierarchy, design=design, given_priors=priors or {})
        if priors:
            _ = self.priors  # a wrong one is an error now, not later

    @classmethod
    def from_toml(cls, path) -> LMM:
        """Read the description, its data and its priors from one TOML file."""
        from bayeslmm.description.model_file import ModelFile

        file = ModelFile.read(path)
        return cls(file.hierarchy, file.load_data(), priors=file.priors, missing=file.missing)

    def __repr__(self) -> str:
        said = [f", known covariance of {level.label}" for level in self.design.levels if level.root is not None]
        said += [] if self.hierarchy.residual.plain else [f", residual {self.hierarchy.residual}"]
        return visible(f"LMM({self.hierarchy.formula!r}, {self.design.n} rows{''.join(said)})")

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}\n\n{escape(self.describe())}</pre>"

    def explain(self) -> str:
        """Say what the factorisation will do: blocks, sizes, cost and fill."""
        from bayeslmm.factorisation.cost import explain_plan

        return visible(explain_plan(self.statistics))

    # before the data -------------------------------------------------------------------------------------------

    def prior_predictive(self, draws: int = 500, random_seed: int | None = None) -> xr.DataTree:
        """Draw parameters, random effects and data from the prior; see `prior_predictive`."""
        from bayeslmm.criticism.prior_predictive import prior_predictive

        return prior_predictive(self, draws, random_seed)

    def implied_priors(self, draws: int = 4000, random_seed: int | None = None) -> ImpliedPriors:
        """What the priors say about intra-class correlations and shrinkage; see `implied_priors`."""
        from bayeslmm.criticism.implied_priors import implied_priors

        return implied_priors(self, draws, random_seed)

    # PyMC models -----------------------------------------------------------------------------------------------

    def joint(self, centered: bool | Mapping[str, bool] = False) -> pm.Model:
        """Build the joint model, with u2, u3, ... and e as nodes; `centered` for all levels or by level name."""
        check_centered(centered, [level.name for level in self.design.levels])  # before PyMC is imported
        from bayeslmm.pymc_models.joint import build_joint

        return build_joint(self.design, self.priors, centered)

    def marginal(self) -> pm.Model:
        """Build the marginal model, the random effects integrated out exactly."""
        from bayeslmm.pymc_models.marginal import build_marginal

        return build_marginal(self.statistics, self.priors)

    def sample(
        self,
        variant: str = "marginal",
        *,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        random_seed: int | None = None,
        sampler: str = "auto",
        centered: bool | Mapping[str, bool] = False,
        target_accept: float = 0.9,
        residuals: bool = False,
        progress: bool = True,
        log_densities: bool = False,
    ) -> xr.DataTree:
        """Sample the posterior; see `sample`.

        With `log_densities` the tree also has each draw's log prior and log likelihood, see `add_log_densities`.
        """
        from bayeslmm.posterior.sampling import sample

        check_flag("log_densities", log_densities)
        tree = sample(
            self, variant, draws=draws, tune=tune, chains=chains, random_seed=random_seed, sampler=sampler,
            centered=centered, target_accept=target_accept, residuals=residuals, progress=progress,
        )  # fmt: skip
        if not log_densities:
            return tree
        from bayeslmm.criticism.sensitivity import add_log_densities

        return add_log_densities(self, tree)

    def sensitivity(self, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
        """Say how much prior and data move the posterior (power-scaling); see `sensitivity`."""
        from bayeslmm.criticism.sensitivity import sensitivity

        return sensitivity(self, tree, **options)

    def summary(self, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
        """Summarise the parameters by ArviZ, correlations once; see `posterior_summary`."""
        from bayeslmm.criticism.sensitivity import posterior_summary

        return posterior_summary(self, tree, **options)

    def predict(
        self,
        tree: xr.DataTree,
        data: Any = None,
        *,
        kind: str = "mean",
        random_effects: bool = True,
        allow_new_groups: bool = False,
        missing: str = "error",
        random_seed: int | None = None,
    ) -> xr.DataArray:
        """Predict rows from a posterior: draws with the dims chain, draw, row.

        Parameters
        ----------
        tree : xarray.DataTree
            What `sample` returned.
        data : frame or mapping of columns, optional
            No response needed; the model's own rows where it is left out.
        kind : {"mean", "response"}
            X beta + Z u and the offset, or a new response with its residual (for independent residuals of one
            variance).
        random_effects : bool
            False leaves them out: X beta alone; new rows need no grouping columns then.
        allow_new_groups : bool
            Whether groups that the model hasn't seen get effects drawn from the population instead of an error.
        missing : {"error", "drop"}
        random_seed : int, optional
        """
        from bayeslmm.predictions.predict import predict_posterior

        return predict_posterior(
            self, tree, data, kind=kind, random_effects=random_effects, allow_new_groups=allow_new_groups,
            missing=missing, random_seed=random_seed,
        )  # fmt: skip

    # matrices --------------------------------------------------------------------------------------------------

    @property
    def y(self) -> pd.Series:
        """The response as it was given, its offset included, labelled by row."""
        return pd.Series(self.design.y, index=self.design.rows, name=self.hierarchy.response)

    @property
    def X(self) -> pd.DataFrame:
        """The fixed-effects matrix (n, p), labelled."""
        return pd.DataFrame(self.design.X, index=self.design.rows, columns=list(self.design.coef))

    @property
    def Z(self):
        """The random-effects matrix (n, q), sparse and labelled: one column per group and effect."""
        from bayeslmm.design.labelled_matrix import LabelledMatrix

        return LabelledMatrix(self.design.Z, self.design.rows, self.design.Z_labels)

    @property
    def Zt(self):
        """Z transposed (q, n), as lme4 keeps it."""
        from bayeslmm.design.labelled_matrix import LabelledMatrix

        return LabelledMatrix(self.design.Zt, self.design.Z_labels, self.design.rows)

    def Lambda(self, theta: Sequence[float]):
        """Relative covariance factor Lambda (q, q) for lme4's theta, sparse and labelled; L (x) lambda for K = LL'."""
        from scipy import sparse

        from bayeslmm.design.labelled_matrix import LabelledMatrix

        blocks = [
            sparse.kron(sparse.eye_array(level.m) if level.root is None else sparse.csr_array(level.root), lam)
            for level, lam in zip(self.design.levels, self._theta_blocks(theta), strict=True)
        ]
        whole = sparse.block_diag(blocks, format="csc") if blocks else sparse.csc_array((0, 0))
        return LabelledMatrix(whole, self.design.Z_labels, self.design.Z_labels)

    def G(self, theta: Sequence[float]):
        """Relative covariance G = Lambda Lambda' (q, q) of the random effects; sigma^2 G is their covariance."""
        from bayeslmm.design.labelled_matrix import LabelledMatrix

        Lambda = self.Lambda(theta).matrix
        return LabelledMatrix((Lambda @ Lambda.T).tocsc(), self.design.Z_labels, self.design.Z_labels)

    def R(self, psi: Sequence[float] = ()):
        """Relative residual covariance R (n, n), sparse and labelled; psi are its parameters, as in ``fit.psi``."""
        from bayeslmm.design.labelled_matrix import LabelledMatrix

        labels = [parameter.label for parameter in self.design.residual.parameters]
        remedy = "Pass fit.psi." if labels else "R has no parameters, so leave it out."
        values = check_list(psi, labels, "psi", remedy)
        for parameter, value in zip(self.design.residual.parameters, values, strict=True):
            if not parameter.lower < value < parameter.upper:
                raise DescriptionError(
                    f"{parameter.label} = {value:g}; R is positive definite between {parameter.lower:g} and "
                    f"{parameter.upper:g}."
                )
        return LabelledMatrix(self.design.residual.R(values), self.design.rows, self.design.rows)

    def V(self, theta: Sequence[float], psi: Sequence[float] = ()):
        """Relative marginal covariance V = Z G Z' + R (n, n), sparse and labelled; Var(y) = sigma^2 V."""
        from bayeslmm.design.labelled_matrix import LabelledMatrix

        Z = self.design.Z
        V = Z @ self.G(theta).matrix @ Z.T + self.R(psi).matrix
        return LabelledMatrix(V.tocsc(), self.design.rows, self.design.rows)

    def _theta_blocks(self, theta) -> list[np.ndarray]:
        """Per level the (r, r) lower triangular factor, from theta in lme4's order."""
        remedy = "Pass fit.theta, or the entries level by level, column by column of the lower triangle."
        values = check_list(theta, theta_labels(self.design), "theta", remedy)
        blocks, at = [], 0
        for level in self.design.levels:
            size = len(level.structure.theta_labels(level.effects))
            blocks.append(level.structure.from_theta(values[at : at + size], level.r))
            at += size
        return blocks
