"""Whether two descriptions imply the same marginal of y: the same mean space and the same family of V.

Different mixed models can have one and the same marginal likelihood: a random intercept and a compound-symmetric
residual, say. The data see V only, so they can't tell such models apart, whatever their random effects say.

One family holds another if it can express each of its V. That is tried at points of the other family, drawn to show
what it can do: the distance to V is minimised over the parameters on some rows, and where it is zero there, V and its
copy are multiplied with random vectors, which shows any difference anywhere in them (Freivalds 1977); the rows of
such a difference join the search. So a witness against is as good as the minimiser, and a yes is a yes at every point
tried; V is never made whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from bayeslmm.covariances.effects.registry import EFFECTS
from bayeslmm.errors import DataError
from bayeslmm.model import Model, check_model
from bayeslmm.support.arguments import check_seed
from bayeslmm.theory.covariance_family import CovarianceFamily

if TYPE_CHECKING:
    from bayeslmm.design.design import Design

Containment = Literal["same", "a in b", "b in a", "different"]

TOLERANCE = 1e-6  # of the largest entry of V: fits that are exact end at 1e-12, others far above
_FAILURES = 3  # points that can't be expressed, after which the worst is taken
_ROUNDS = 40
_PROBES = 3


def same_marginal(lmm_a: Model, lmm_b: Model, *, random_seed: int = 1) -> SameMarginal:
    """Say whether two models of the same data imply the same family of marginal distributions of y.

    Parameters
    ----------
    lmm_a, lmm_b : Model
        Two models of the same response on the same rows.
    random_seed : int
        Of the points at which the families are compared.

    Returns
    -------
    SameMarginal
        True where both families are the same; `.witness` shows why, or why not.

    Raises
    ------
    DataError
        When the responses or the rows differ.

    Examples
    --------
    Pupils of one class may compete: their heights can be correlated negatively, which no random intercept can say.

    >>> import bayeslmm as blm
    >>> data = {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}
    >>> intercept = blm.LMM("y ~ 1 + (1 | g)", data)
    >>> symmetric = blm.LMM(blm.Hierarchy(response="y", residual=blm.Residual(structure="cs", group="g")), data)
    >>> found = blm.same_marginal(intercept, symmetric)
    >>> bool(found), found.a_in_b, found.b_in_a
    (False, True, False)
    >>> found.witness.source, found.witness.entries["b"] < 0
    ('b', True)
    """
    for which, model in (("first", lmm_a), ("second", lmm_b)):
        check_model(model, "blm.same_marginal(lmm, blm.LMM(other_formula, data))", f"the {which} model")
    check_seed(random_seed)
    _check_same_data(lmm_a.design, lmm_b.design)
    a, b = CovarianceFamily(design=lmm_a.design), CovarianceFamily(design=lmm_b.design)
    rng = np.random.default_rng(random_seed)
    forth, back = _express(a, b, rng), _express(b, a, rng)
    return SameMarginal(
        names=(_describe(lmm_a), _describe(lmm_b)),
        only_a=_outside(lmm_a.design, lmm_b.design),
        only_b=_outside(lmm_b.design, lmm_a.design),
        effects=(_effects(lmm_a), _effects(lmm_b)),
        from_a=_witness("a", a, b, forth),
        from_b=_witness("b", b, a, back),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Witness:
    """A V of one model, and the nearest V of the other.

    Attributes
    ----------
    source : {"a", "b"}
        Whose V was sought in the other.
    equal : bool
        Whether every V tried of the source is one of the other.
    parameters : dict of str to pandas.Series
        Of "a" and of "b": the point of the source, and the point of the other that comes nearest.
    rows : tuple
        Labels of the two rows whose covariance differs most of those compared; the same twice for a variance.
    entries : dict of str to float
        That covariance in "a" and in "b".
    difference : float
        That of the two entries, relative to the source's largest one in the rows that were compared; where all V
        tried are equal, the largest over all of them.
    """

    source: Literal["a", "b"]
    equal: bool
    parameters: dict[str, pd.Series]
    rows: tuple
    entries: dict[str, float]
    difference: float

    @property
    def text(self) -> str:
        """It in words, the models being called A and B."""
        own, other = self.source, "b" if self.source == "a" else "a"
        first, second = (f"{k.upper()} with {_listed(self.parameters[k])}" for k in (own, other))
        if self.equal:
            return f"For example {first} has the V of {second}."
        i, j = self.rows
        what = f"Var(y[{i}])" if i == j else f"Cov(y[{i}], y[{j}])"
        negative = ", a negative one" if self.entries[own] < 0 <= self.entries[other] else ""
        return (
            f"A witness: {first} gives {what} = {self.entries[own]:.3g}{negative}; the nearest V, of {second}, has "
            f"{self.entries[other]:.3g} there."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SameMarginal:
    """Whether two models imply the same marginals of y; true where they do.

    Attributes
    ----------
    names : tuple of str
        What the models are called: their formulas.
    only_a, only_b : tuple of str
        Columns of X that the other's columns can't express.
    effects : tuple of str
        The random effects of either.
    from_a, from_b : Witness
        What became of V of one model in the other.
    """

    names: tuple[str, str]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    effects: tuple[str, str]
    from_a: Witness
    from_b: Witness

    @property
    def fixed(self) -> Containment:
        """Containment of the fixed parts: of the spaces that the columns of X span."""
        return _relation(not self.only_a, not self.only_b)

    @property
    def covariance(self) -> Containment:
        """Containment of the families of V."""
        return _relation(self.from_a.equal, self.from_b.equal)

    @property
    def a_in_b(self) -> bool:
        """Whether every marginal of the first model is one of the second."""
        return not self.only_a and self.from_a.equal

    @property
    def b_in_a(self) -> bool:
        """Whether every marginal of the second model is one of the first."""
        return not self.only_b and self.from_b.equal

    @property
    def same(self) -> bool:
        """Whether both models imply the same marginals."""
        return self.a_in_b and self.b_in_a

    def __bool__(self) -> bool:
        return self.same

    @property
    def witness(self) -> Witness:
        """A V that only one model has; where both families are the same, parameters that give the same V."""
        return self.from_b if self.from_a.equal and not self.from_b.equal else self.from_a

    @property
    def text(self) -> str:
        """The answer in words."""
        said = [f"A is {self.names[0]}; B is {self.names[1]}.", _verdict(self)]
        if self.fixed != "same":
            sides = [("A", self.only_a), ("B", self.only_b)]
            listed = "; ".join(f"only {name} has {', '.join(columns)}" for name, columns in sides if columns)
            said.append(f"The fixed parts span different spaces: {listed}.")
        found = [w for w in (self.from_a, self.from_b) if not w.equal]
        said += [w.text for w in found]
        if len(found) < 2:
            said.append((self.from_a if self.from_a.equal else self.from_b).text)
        if self.effects[0] != self.effects[1] and (self.a_in_b or self.b_in_a):
            where = "The data" if self.same else "Where they agree the data"
            effects = f"the random effects of A are {self.effects[0]}, those of B {self.effects[1]}"
            said.append(f"{where} can't tell them apart, though {effects}.")
        return " ".join(said)

    def __str__(self) -> str:
        return fill(self.text, 110)

    def __repr__(self) -> str:
        return str(self)


# the search -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Match:
    """The V of one family at x, the nearest of the other at y, and where they differ most."""

    x: np.ndarray
    y: np.ndarray
    cell: tuple[int, int]
    entries: tuple[float, float]
    size: float
    gap: float

    @property
    def equal(self) -> bool:
        return self.gap <= TOLERANCE


def _express(source: CovarianceFamily, target: CovarianceFamily, rng: np.random.Generator) -> _Match:
    """Seek V of the source in the target, at all points of the source: the worst failure, or the first success."""
    rows = _telling_rows(source.design, target.design)
    good: list[_Match] = []
    bad: list[_Match] = []
    for x in source.points(rng):
        match, rows = _nearest(source, target, x, rows, rng)
        (good if match.equal else bad).append(match)
        if len(bad) == _FAILURES:
            break
    if bad:
        return max(bad, key=lambda match: match.gap)
    return replace(good[0], gap=max(match.gap for match in good))


def _nearest(
    source: CovarianceFamily, target: CovarianceFamily, x: np.ndarray, rows: np.ndarray, rng: np.random.Generator
) -> tuple[_Match, np.ndarray]:
    """Find the V of the target that is nearest to the source's at x, on ever more rows; and return these."""
    y = None
    for _ in range(_ROUNDS):
        V = source.covariance(x, rows)
        y = _fit(V, target, rows, y, rng)
        W = target.covariance(y, rows)
        i, j = np.unravel_index(int(np.abs(V - W).argmax()), V.shape)
        size = float(np.abs(V).max())
        entries = (float(V[i, j]), float(W[i, j]))
        gap = abs(entries[0] - entries[1]) / size
        match = _Match(x=x, y=y, cell=(int(rows[i]), int(rows[j])), entries=entries, size=size, gap=gap)
        if not match.equal:
            break
        more = _differing_rows(source, target, x, y, size, rng)
        if not len(more):
            break
        rows = np.union1d(rows, more)
    return match, rows


def _fit(
    V: np.ndarray, target: CovarianceFamily, rows: np.ndarray, last: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Parameters of the target whose V of these rows is nearest to the given one, from several starts."""
    from scipy.optimize import least_squares

    lower = np.tril_indices(len(rows))
    size = np.abs(V).max()
    short = max(0, target.size - len(lower[0]))

    def apart(y: np.ndarray) -> np.ndarray:
        # zeros where there are fewer numbers than parameters, which MINPACK refuses
        return np.pad((target.covariance(y, rows) - V)[lower] / size, (0, short))

    def search(start: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
        evaluations = steps * (target.size + 1)  # the derivative is by differences
        found = least_squares(apart, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=evaluations)
        return float(np.abs(found.fun).max()), found.x

    starts = target.starts(float(np.diag(V).mean()), rng)
    best, least = starts[0], np.inf
    for start in starts if last is None else [last, *starts]:
        gap, y = search(start, 50)
        if TOLERANCE / 1000 < gap < 0.01:
            gap, y = search(y, 1000)  # on the way, in a narrow valley: Sigma is nearly singular there
        if gap < least:
            best, least = y, gap
        if least <= TOLERANCE / 1000:
            break
    return best


def _differing_rows(
    source: CovarianceFamily,
    target: CovarianceFamily,
    x: np.ndarray,
    y: np.ndarray,
    size: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rows in which the two V differ, seen by their products with random vectors; none where they are equal."""
    z = rng.normal(size=(source.design.n, _PROBES))
    one = source.times(x, z)
    gap = np.abs(one - target.times(y, z)).max(axis=1)
    if gap.max() <= 10 * TOLERANCE * np.abs(one).max():
        return np.empty(0, dtype=np.int64)
    i = int(gap.argmax())
    unit = np.zeros((source.design.n, 1))
    unit[i] = 1.0
    column = np.abs(source.times(x, unit) - target.times(y, unit))[:, 0]
    j = int(column.argmax())
    return np.array([i, j]) if column[j] > TOLERANCE * size else np.empty(0, dtype=np.int64)


def _telling_rows(a: Design, b: Design) -> np.ndarray:
    """A few rows of a large and of a small group of everything that groups rows; all rows where there are few."""
    if a.n <= 40:
        return np.arange(a.n)
    rows: set[int] = set()
    for design in (a, b):
        for index in [*(level.index for level in design.levels), design.residual.block, design.residual.stratum]:
            sizes = np.bincount(index)
            sizes = np.where(sizes > 1, sizes, 0) if sizes.max() > 1 else sizes
            for group in (int(sizes.argmax()), int(np.where(sizes > 0, sizes, np.inf).argmin())):
                rows |= set(np.flatnonzero(index == group)[:4].tolist())
    return np.array(sorted(rows))


def _witness(source: Literal["a", "b"], own: CovarianceFamily, other: CovarianceFamily, match: _Match) -> Witness:
    names = (source, "b" if source == "a" else "a")
    rows = own.design.rows
    # what a search has left of a zero is not worth showing
    y = np.where(np.abs(match.y) < (1e-7 if match.equal else 1e-4) * np.abs(match.y).max(), 0.0, match.y)
    entries = [value if abs(value) > 1e-9 * match.size else 0.0 for value in match.entries]
    return Witness(
        source=source,
        equal=match.equal,
        parameters=dict(zip(names, (own.parameters(match.x), other.parameters(y)), strict=True)),
        rows=(rows[match.cell[0]], rows[match.cell[1]]),
        entries=dict(zip(names, entries, strict=True)),
        difference=match.gap,
    )


# what else there is to compare --------------------------------------------------------------------------------------


def _check_same_data(a: Design, b: Design) -> None:
    if a.n != b.n or not a.rows.equals(b.rows):
        raise DataError(
            f"The models are of different rows ({a.n} and {b.n}); expected the same rows in the same order. Build both "
            "from one table, without rows that either leaves out."
        )
    if not np.array_equal(a.y, b.y):
        raise DataError(
            f"The models are of different responses, {a.hierarchy.response!r} and {b.hierarchy.response!r}; expected "
            "one, because marginals of different quantities can't be compared."
        )


def _outside(own: Design, other: Design) -> tuple[str, ...]:
    """Columns of X, or an offset, that are no combination of the other model's columns."""
    columns, names = own.X, own.coef
    apart = (other.net_y - own.net_y)[:, None]  # what the offsets differ by
    if np.abs(apart).max() > 1e-12 * np.abs(own.y).max():
        columns = np.column_stack([columns, apart])
        names = (*names, f"offset({own.hierarchy.offset or other.hierarchy.offset})")
    if not columns.shape[1]:
        return ()
    scaled = columns / np.linalg.norm(columns, axis=0)
    basis = np.linalg.qr(other.X / np.linalg.norm(other.X, axis=0))[0]
    rest = scaled - basis @ (basis.T @ scaled)
    rest -= basis @ (basis.T @ rest)
    return tuple(name for name, size in zip(names, np.linalg.norm(rest, axis=0), strict=True) if size > 1e-9)


def _relation(forth: bool, back: bool) -> Containment:
    if forth:
        return "same" if back else "a in b"
    return "b in a" if back else "different"


def _describe(model: Model) -> str:
    hierarchy = model.design.hierarchy
    said = [f"known covariance of {level.label}" for level in hierarchy.levels if level.matrix is not None]
    said += [] if hierarchy.residual.plain else [f"residual {hierarchy.residual}"]
    return hierarchy.formula + (f" [{', '.join(said)}]" if said else "")


def _effects(model: Model) -> str:
    levels = []
    for design in model.design.levels:
        structure = EFFECTS["us"] if design.r == 1 else design.structure
        levels.append(structure.bar(design.level.effects, ":".join(sorted(design.level.group))))
    levels.sort()
    return " + ".join(levels) or "none"


def _listed(parameters: pd.Series) -> str:
    return ", ".join(f"{name} = {value:.3g}" for name, value in parameters.items())


def _verdict(found: SameMarginal) -> str:
    if found.same:
        return "Both imply the same marginals of y."
    if found.a_in_b:
        return "Every marginal of y that A implies B implies too, but not the other way round."
    if found.b_in_a:
        return "Every marginal of y that B implies A implies too, but not the other way round."
    if found.covariance == "same":
        return "Both imply the same covariances of y, but not the same means."
    return "They imply different marginals of y: either has some that the other has not."
