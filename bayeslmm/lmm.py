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
        """Read the description, its data and its priors from one TOML file.

        Parameters
        ----------
        path : str or Path
            Of the file; `example` takes the name of a bundled one.

        Raises
        ------
        DescriptionError, DataError, PriorError
            At the file and line of what can't be read or doesn't fit.

        Examples
        --------
        >>> from bayeslmm.gallery import example_path
        >>> LMM.from_toml(example_path("dyestuff"))
        LMM('Yield ~ 1 + (1 | Batch)', 30 rows)
        """
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
        """Say what the factorisation will do: blocks, sizes, cost and fill.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> print(blm.example("dyestuff").explain())
        30 rows become cross-products of 6 random effects, 1 column of X, and y; after that the rows don't matter.
        ...
        """
        from bayeslmm.factorisation.cost import explain_plan

        return visible(explain_plan(self.statistics))

    # before the data -------------------------------------------------------------------------------------------

    def prior_predictive(self, draws: int = 500, random_seed: int | None = None) -> xr.DataTree:
        """Draw parameters, random effects and data from the prior.

        Parameters
        ----------
        draws : int
        random_seed : int, optional
            The same seed gives the same draws.

        Returns
        -------
        xarray.DataTree
            Groups ``prior`` (beta, sigma, sigma_u2, ..., corr_u2, u2, ... under the posterior's names and dims, one
            chain), ``prior_predictive`` (y) and ``observed_data`` (y), as ArviZ's plots of predictive checks want them.

        Raises
        ------
        PriorError
            Where a prior is flat: nothing can be drawn from it.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> tree = lmm.prior_predictive(draws=100, random_seed=1)
        >>> dict(tree["prior_predictive"]["y"].sizes)
        {'chain': 1, 'draw': 100, 'row': 6}
        """
        from bayeslmm.criticism.prior_predictive import prior_predictive

        return prior_predictive(self, draws, random_seed)

    def implied_priors(self, draws: int = 4000, random_seed: int | None = None) -> ImpliedPriors:
        """Draw from the priors and compute what they imply for correlations within groups and for shrinkage.

        Parameters
        ----------
        draws : int
        random_seed : int, optional
            The same seed gives the same draws.

        Returns
        -------
        ImpliedPriors

        Raises
        ------
        PriorError
            Where a prior is flat: it implies nothing that could be drawn.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")},
        ...               priors={"shares": "Dirichlet(a=1)"})  # icc[u2] is uniform
        >>> lmm.implied_priors(random_seed=1).table.loc["icc[u2]", "median"].round(1).item()
        0.5
        """
        from bayeslmm.criticism.implied_priors import implied_priors

        return implied_priors(self, draws, random_seed)

    # PyMC models -----------------------------------------------------------------------------------------------

    def joint(self, centered: bool | Mapping[str, bool] = False) -> pm.Model:
        """Build the joint model, with u2, u3, ... and e as nodes of the graph.

        Parameters
        ----------
        centered : bool or mapping of level name to bool
            Centred: u2 is a free variable. Non-centred (the default): standard normal z_u2 is free and u2 is
            deterministic.

        Returns
        -------
        pymc.Model
            u2, u3, ... have the dims of their groups (and effects); e is ``model["e"]``, dims "row".

        Raises
        ------
        DescriptionError
            If `centered` names no level, or is no truth.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> model = blm.example("dyestuff").joint(centered={"u2": True})
        >>> [rv.name for rv in model.free_RVs], model.named_vars_to_dims["u2"]
        (['beta', 'sigma', 'sigma_u2', 'u2'], ('Batch',))
        """
        check_centered(centered, [level.name for level in self.design.levels])  # before PyMC is imported
        from bayeslmm.pymc_models.joint import build_joint

        return build_joint(self.design, self.priors, centered)

    def marginal(self) -> pm.Model:
        """Build the marginal model, the random effects integrated out exactly.

        Returns
        -------
        pymc.Model
            Free variables beta, sigma, sigma_u2, ..., the factors of the correlations; observed y. The data are
            ``pm.Data`` "y_data", so ``pm.set_data`` changes them.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> [rv.name for rv in blm.example("dyestuff").marginal().free_RVs]
        ['beta', 'sigma', 'sigma_u2']
        """
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
        """Sample the posterior of one variant.

        Parameters
        ----------
        variant : {"marginal", "joint"}
            In the marginal variant u2, u3, ... are drawn exactly from p(u | y, parameters).
        draws, tune, chains : int
            Kept and tuning draws per chain (the collapsed sampler adapts by itself: `tune` is for NUTS).
        random_seed : int, optional
            The same seed gives the same draws, whatever the number of cores.
        sampler : {"auto", "collapsed", "nuts"}
            "auto" takes the collapsed sampler for the marginal variant with up to 12 variance parameters, and NUTS
            where its diagnostics fail or the variant is joint; ``attrs["sampler"]`` says which one ran,
            ``attrs["note"]`` why.
        centered : bool or mapping of level to bool
            Parameterisation of the joint variant, as `LMM.joint` writes it down. NUTS moves in coordinates between the
            two forms, the same for both.
        target_accept : float
            Acceptance rate that NUTS adapts its step size to. Where more than one draw in a thousand diverges, NUTS
            runs again by itself at 0.99.
        residuals : bool
            Whether to keep e = y - X beta - Z u (dims chain, draw, row).
        progress : bool
            Show progress when the work takes more than a second.
        log_densities : bool
            Whether the tree also has each draw's log prior and log likelihood, see `add_log_densities`.

        Returns
        -------
        xarray.DataTree
            Groups posterior, sample_stats, observed_data. Its attrs say what it is worth: ``trusted`` (1 or 0),
            ``doubts`` (why not), ``note`` (what was done instead of what was asked for), ``seconds`` in all and
            thereof ``seconds_compiling`` and ``seconds_sampling``.

        Warns
        -----
        UserWarning
            If the draws can't be trusted. Draws too few to judge are only said to be so in attrs.

        Raises
        ------
        SamplingError
            If the run was interrupted or has draws that are not finite; its ``clean`` is the part that can be trusted.
        DescriptionError
            If an argument is none of the above.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> tree = blm.example("dyestuff").sample(draws=200, chains=2, random_seed=1, progress=False)
        >>> dict(tree["posterior"]["u2"].sizes)
        {'chain': 2, 'draw': 200, 'Batch': 6}
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
        """Power-scaling sensitivity of the parameters to the prior and to the likelihood, by ArviZ.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it; the log densities are added where they are missing.
        **options
            For ``arviz.psense_summary``, such as ``prior_var_names="sigma_u2"`` for the sensitivity to one prior alone.

        Returns
        -------
        pandas.DataFrame
            Per parameter (not per random effect) the two sensitivities and a diagnosis: above 0.05 the prior, or the
            data, move the posterior; both at once hint at a conflict, the prior alone at data that say little.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> tree = lmm.sample(draws=500, chains=4, random_seed=1, progress=False)
        >>> lmm.sensitivity(tree).index.tolist()
        ['beta[Intercept]', 'sigma', 'sigma_u2']
        """
        from bayeslmm.criticism.sensitivity import sensitivity

        return sensitivity(self, tree, **options)

    def summary(self, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
        """Summarise the parameters by ArviZ: correlations once, without the ones that ``arviz.summary`` warns of.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it.
        **options
            For ``arviz.summary``.

        Returns
        -------
        pandas.DataFrame
            A row per parameter (not per random effect).

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> tree = lmm.sample(draws=500, chains=4, random_seed=1, progress=False)
        >>> lmm.summary(tree, kind="diagnostics").index.tolist()
        ['beta[Intercept]', 'sigma', 'sigma_u2']
        """
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

        Returns
        -------
        xarray.DataArray
            (chain, draw, row), in units of y.

        Raises
        ------
        DataError, DescriptionError
            For columns or groups that are missing or new, and for arguments that are none of the above.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> tree = lmm.sample(draws=200, chains=2, random_seed=1, progress=False)
        >>> dict(lmm.predict(tree, {"Days": [10, 11], "Subject": ["308", "308"]}).sizes)
        {'chain': 2, 'draw': 200, 'row': 2}
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
        """Relative covariance factor Lambda (q, q) for lme4's theta, sparse and labelled; L (x) lambda for K = LL'.

        Parameters
        ----------
        theta : sequence of float
            As in ``fit.theta``: free entries of the factors, level by level, column by column.

        Returns
        -------
        LabelledMatrix

        Raises
        ------
        DescriptionError
            If `theta` has another length, or an entry that is not finite.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> lmm.Lambda([2.0]).toarray().tolist()
        [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
        """
        from scipy import sparse

        from bayeslmm.design.labelled_matrix import LabelledMatrix

        blocks = [
            sparse.kron(sparse.eye_array(level.m) if level.root is None else sparse.csr_array(level.root), lam)
            for level, lam in zip(self.design.levels, self._theta_blocks(theta), strict=True)
        ]
        whole = sparse.block_diag(blocks, format="csc") if blocks else sparse.csc_array((0, 0))
        return LabelledMatrix(whole, self.design.Z_labels, self.design.Z_labels)

    def G(self, theta: Sequence[float]):
        """Relative covariance G = Lambda Lambda' (q, q) of the random effects; sigma^2 G is their covariance.

        `theta` and errors are those of `LMM.Lambda`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> lmm.G([2.0]).toarray().diagonal().tolist()
        [4.0, 4.0, 4.0]
        """
        from bayeslmm.design.labelled_matrix import LabelledMatrix

        Lambda = self.Lambda(theta).matrix
        return LabelledMatrix((Lambda @ Lambda.T).tocsc(), self.design.Z_labels, self.design.Z_labels)

    def R(self, psi: Sequence[float] = ()):
        """Relative residual covariance R (n, n), sparse and labelled; psi are its parameters, as in ``fit.psi``.

        Raises
        ------
        DescriptionError
            If `psi` has another length than R has parameters, or makes R not positive definite.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> fit = blm.example("ovary").reml()
        >>> float(blm.example("ovary").R(fit.psi).toarray()[0, 1].round(2))
        0.61
        """
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
        """Relative marginal covariance V = Z G Z' + R (n, n), sparse and labelled; Var(y) = sigma^2 V.

        `theta` is that of `LMM.Lambda`, `psi` that of `LMM.R`, with their errors.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> lmm.V([2.0]).toarray()[0].tolist()
        [5.0, 4.0, 0.0, 0.0, 0.0, 0.0]
        """
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
