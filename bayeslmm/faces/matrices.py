"""The model's matrices, labelled: lme4's getME in Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.errors import DescriptionError
from bayeslmm.likelihood.fit import theta_labels
from bayeslmm.model import Model
from bayeslmm.support.arguments import check_list


class Matrices(Model):
    """y, X, Z, and Lambda, G, R, V at given parameters."""

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
