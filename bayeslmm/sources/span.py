"""What sums can't tell: whether columns that look dependent are, asked of the rows; and how many digits are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayeslmm.design.collinear import equation
from bayeslmm.design.counted import mean
from bayeslmm.design.model_matrix import Encoder
from bayeslmm.errors import DataError
from bayeslmm.sources.expressions import Expression, State
from bayeslmm.sources.matrices import MadeColumn
from bayeslmm.sources.source import ask
from bayeslmm.sources.survey import lifted

NEAR = 1e-9  # least eigenvalue of the columns' correlations: their products have 16 digits, and seven are left
REMEDY = (
    "Centre the columns (center(x), poly(x, 2) in the place of x + I(x**2)), leave one out, or collect the rows: "
    "blm.LMM(formula, frame)."
)


def check_left_out(
    table: Any, atoms: Mapping[str, Expression], state: State, encoder: Encoder, made: Sequence[MadeColumn]
) -> None:
    """Ask the source whether columns of numbers that were left out are, in every row, what the others say.

    Raises
    ------
    DataError
        Where they are nearly so only, which sums of products can't tell.
    """
    import narwhals.stable.v2 as nw

    of = {one.name: one for one in made}
    for name, coefficients in encoder.left_out.items():
        used = [(other, c) for other, c in zip(encoder.names, coefficients, strict=True) if c]
        if not of[name].atom or any(of[own].codes for own in (name, *(other for other, _ in used))):
            continue
        x = lifted(atoms[of[name].atom], state)
        rest, size = x, x.abs()
        for other, c in used:
            z = lifted(atoms[of[other].atom], state) if of[other].atom else nw.lit(1.0)
            rest, size = rest - float(c) * z, size + (float(c) * z).abs()
        rows = table.select(rest=rest.abs(), size=size)
        found = ask(rows.select(rest=nw.col("rest").max(), size=nw.col("size").max()), "comparing columns").iloc[0]
        if float(found["rest"]) > 1e-7 * float(found["size"]):
            raise DataError(
                f"{name} is nearly, but not quite, {equation(encoder.names, name, coefficients).split(' = ')[1]}: what "
                f"is left of it is {float(found['rest']):.1g}, too little for sums of products to tell. {REMEDY}"
            )


def check_conditioning(X: np.ndarray, rest: np.ndarray, counts: np.ndarray, names: Sequence[str]) -> None:
    """Refuse columns so nearly dependent that their products have lost what tells them apart.

    Raises
    ------
    DataError
    """
    if X.shape[1] < 2:
        return
    middle = mean(X, counts)
    constant = np.ptp(X, axis=0) == 0
    centred = X - np.where(constant, 0.0, middle) * constant.any() + rest
    size = np.sqrt(counts @ centred**2)
    unit = centred / np.where(size > 0, size, 1.0) * np.sqrt(counts)[:, None]
    values, vectors = np.linalg.eigh(unit.T @ unit)
    if values[0] < NEAR:
        worst = [names[j] for j in np.argsort(-np.abs(vectors[:, 0]))[:3]]
        raise DataError(
            f"The columns {', '.join(worst)} of the fixed part are nearly combinations of each other: of what tells "
            f"them apart, a share of {max(values[0], 0.0):.1g}, sums of products keep too few digits. {REMEDY}"
        )
