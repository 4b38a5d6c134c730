"""Marginal effects: the derivative of expected values by a predictor, that of its encoded columns times beta and u.

Columns that are numbers themselves have the derivative 1. Those that a transform makes are differenced, at five points
about each row, or beside it at the ends of the model's range, which is exact for polynomials up to the fourth degree;
with smaller and smaller steps until two of them agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.data.table import say_rows
from bayeslmm.design.design import Design
from bayeslmm.design.model_matrix import Encoder, number_of
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.model import Model
from bayeslmm.predictions.asked import By, check_level, result_of, scope_words
from bayeslmm.predictions.comparisons import tabulated
from bayeslmm.predictions.encoding import Rows, predictors
from bayeslmm.predictions.linear import Linear
from bayeslmm.predictions.predictions import dropped_words
from bayeslmm.predictions.scopes.registry import scopes_of
from bayeslmm.predictions.variables import check_variable, is_number
from bayeslmm.tables.table import Table

FIRST = 2.0**-7  # the first step, in SDs of the predictor
SMALLER = 8.0
STEPS = 9
ENOUGH = 1e-6  # of the largest slope of a column: how well two steps agree,
LOOSE = 1e-3  # or have to where rounding keeps them from agreeing better
ROUNDING = 4 * np.finfo(float).eps


def slopes(
    model: Model,
    result: Any,
    variables: Any = None,
    data: Any = None,
    *,
    by: Any = None,
    hypothesis: Any = None,
    scope: Any = "observed",
    level: float = 0.95,
    missing: str = "error",
) -> Table:
    """A table of marginal effects. See `LMM.slopes`."""
    design = model.design
    own, level, by = result_of(model, result, "lmm.slopes(result)"), check_level(level), By.of(by, usual=True)
    scopes = scopes_of(scope, design)
    names = asked_slopes(design, variables)
    rows = Rows.read(design, data, scopes, missing, by.columns)
    table = tabulated(own, rows, by, [Slope.along(design, name) for name in names], level, hypothesis)
    note = [own.words("mean", level)]
    note += [f"Change of the expected value, in units of {design.hierarchy.response}, per unit of the variable."]
    note += [scope_words(design, scopes), f"Slopes {by.words}." if by.words else "", dropped_words(rows), own.doubts]
    title = f"Slopes of {design.hierarchy.response} ({own.name})"
    return Table(frame=table, title=title, note="\n".join(filter(None, note)))


def asked_slopes(design: Design, variables: Any) -> list[str]:
    """The predictors that slopes are asked along."""
    if variables is None:
        numbers = [name for name in predictors(design) if is_number(design, name)]
        if not numbers:
            raise DescriptionError("The model has no predictor that is a number; write comparisons(result) instead.")
        return numbers
    names = [variables] if isinstance(variables, str) else list(variables) if isinstance(variables, Sequence) else []
    if not names:
        raise DescriptionError(f"variables={variables!r}; expected a predictor or a list of them.")
    for name in names:
        check_variable(design, name, numeric=True)
    return names


@dataclass(frozen=True, kw_only=True, eq=False)
class Slope:
    """The derivative along one predictor.

    Attributes
    ----------
    variable : str
    step : float
        The first step of differences.
    low, high : float
        Ends of the model's range.
    """

    variable: str
    step: float
    low: float
    high: float
    label: str = "dY/dX"

    @classmethod
    def along(cls, design: Design, name: str) -> Slope:
        """Of a predictor, steps and range being those that the model has seen."""
        x = design.frame[name].to_numpy(dtype=float)
        low, high = float(x.min()), float(x.max())
        step = FIRST * float(x.std()) or FIRST * abs(low) or FIRST
        return cls(variable=name, step=2.0 ** np.floor(np.log2(step)), low=low, high=high)

    def linear(self, rows: Rows, some: slice) -> Linear:
        """The derivatives of some rows."""
        design, part = rows.design, rows.frame.iloc[some]
        columns = [
            self._of(encoder, encoder.matrix, part) if scope.needs_effects else None
            for scope, encoder in zip(rows.scopes, design.encoders[1:], strict=True)
        ]
        offset, encoder = np.zeros(len(part)), design.offset_encoder
        if encoder is not None:
            own = encoder
            offset = self._of(own, lambda frame: number_of(own, frame, "the offset")[:, None], part)[:, 0]
        return rows.assembled(some, offset, self._of(design.encoders[0], design.encoders[0].matrix, part), columns)

    def _of(self, encoder: Encoder, encode: Callable[[pd.DataFrame], np.ndarray], part: pd.DataFrame) -> np.ndarray:
        """The derivative of an encoder's columns."""
        if self.variable not in encoder.kinds:
            return np.zeros((len(part), len(encoder.names)))
        if encoder.spec is None:
            return np.tile([float(name == self.variable) for name in encoder.names], (len(part), 1))
        return self.differenced(encode, part)

    def differenced(self, encode: Callable[[pd.DataFrame], np.ndarray], part: pd.DataFrame) -> np.ndarray:
        """The derivative (rows, columns) by differences, with smaller steps for rows where two do not agree."""
        step, size = self.step, 0.0
        coarse, largest = self._difference(encode, part, step)
        out, left = coarse.copy(), np.arange(len(part))
        for _ in range(STEPS):
            step /= SMALLER
            fine, largest = self._difference(encode, part.iloc[left], step)
            size = np.maximum(size, np.abs(fine).max(axis=0, initial=0.0))
            gap = np.abs(fine - coarse)
            x = np.abs(part[self.variable].to_numpy(dtype=float)[left])[:, None]
            rounding = ROUNDING * (largest + x * np.abs(fine)) / step
            error = np.minimum(gap / SMALLER**4 + rounding, gap)
            out[left] = np.where(error < gap, fine, coarse)
            hopeful = gap / SMALLER**4 > rounding
            bad = (error > np.where(hopeful, ENOUGH, LOOSE) * size).any(axis=1)
            left, coarse = left[bad], fine[bad]
            if not left.size:
                return out
        which = np.isin(np.arange(len(part)), left)
        raise DataError(
            f"The slope along {self.variable!r} can't be told in {say_rows(part.index, which)}: differences don't "
            "settle as their step gets smaller. Is there a kink or a jump? Write comparisons(result) for a difference."
        )

    def _difference(
        self, encode: Callable[[pd.DataFrame], np.ndarray], part: pd.DataFrame, step: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(derivatives at one step, the columns' largest numbers by row)."""
        x = part[self.variable].to_numpy(dtype=float)
        room = max(self.high - self.low, 4 * step)
        inside = (x >= self.low) & (x <= self.high) & (room > 4 * step)
        shift = np.zeros(len(x), dtype=np.int64)
        with np.errstate(invalid="ignore"):
            least, most = np.ceil((self.low - x) / step) + 2, np.floor((self.high - x) / step) - 2
        shift[inside] = np.clip(0, least[inside], most[inside]).clip(-2, 2)
        weights = _WEIGHTS[shift + 2]
        here = encode(part)
        total, largest = np.zeros((1, 1)), np.abs(here)
        for j in range(5):
            moved = encode(part.assign(**{self.variable: x + (shift + j - 2) * step}))
            total = total + weights[:, j, None] * (moved - here)
            largest = np.maximum(largest, np.abs(moved))
        return total / step, largest


def _derivative_weights(nodes: np.ndarray) -> np.ndarray:
    """w with sum w f(node) = f'(0) for polynomials f of degree 4."""
    return np.linalg.solve(np.vander(nodes, increasing=True).T, np.eye(5)[1])


_WEIGHTS = np.stack([_derivative_weights(np.arange(-2.0, 3.0) + shift) for shift in range(-2, 3)])
