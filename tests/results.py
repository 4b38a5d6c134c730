"""Results to make tables of, and what is in them by the definitions: dense matrices, draw by draw."""

import numpy as np
import structured
import xarray as xr


def drawn(lmm, draws=6, seed=1):
    """A tree of draws that are independent of each other, and far from any edge: those of the prior."""
    prior = lmm.prior_predictive(draws=draws, random_seed=seed)["prior"].to_dataset()
    return xr.DataTree.from_dict({"/posterior": prior})


def column(table, **where):
    """The estimates of some rows."""
    frame = table.to_pandas()
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame["estimate"].to_numpy()


class Dense:
    """One draw of the parameters, and what follows from it by the definitions."""

    def __init__(self, lmm, posterior, i, R):
        design = self.design = lmm.design
        values = {name: posterior[name].values[0, i] for name in posterior.data_vars}
        self.beta, self.sigma = values["beta"], float(values["sigma"])
        psi = [float(values[p.name]) for p in design.residual.own]
        psi += list(np.atleast_1d(values["sigma_ratio"])) if design.residual.strata else []
        self.R = self.sigma**2 * R(design, psi)
        self.parts, self.G = [], []
        for level in design.levels:
            sd = np.broadcast_to(values.get(f"sigma_{level.name}", self.sigma), level.r)
            corr = values.get(f"corr_{level.name}", np.eye(level.r))
            G = np.kron(structured.dense_K(level), sd[:, None] * corr * sd)
            Z = level.Z.toarray()
            self.G.append(G)
            self.parts.append(Z @ G @ Z.T)
        self.V = self.R + sum(self.parts)

    @property
    def variances(self):
        return [np.diag(part).mean() for part in [*self.parts, self.R]]

    @property
    def r2(self):
        fixed = np.var(self.design.X @ self.beta, ddof=1) if self.design.p else 0.0
        *levels, residual = self.variances
        return np.array([fixed, fixed + sum(levels)]) / (fixed + sum(levels) + residual)

    @property
    def P(self):
        X, V1 = self.design.X, np.linalg.inv(self.V)
        return V1 - V1 @ X @ np.linalg.solve(X.T @ V1 @ X, X.T @ V1) if X.shape[1] else V1

    @property
    def effective(self):
        levels = [np.trace(part @ self.P) for part in self.parts]
        return np.array([self.design.p, *levels, self.design.n - np.trace(self.R @ self.P)])

    @property
    def reliability(self):
        V1, out = np.linalg.inv(self.V), [np.zeros(0)]
        for level, G in zip(self.design.levels, self.G, strict=True):
            Z = level.Z.toarray()
            out.append(np.diag(G @ Z.T @ V1 @ Z @ G) / np.diag(G))
        return np.concatenate(out)


def plain_R(design, psi):
    return np.eye(design.n)
