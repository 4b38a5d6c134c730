"""A description and data become a design, or an error that says what does not fit."""

from __future__ import annotations

import warnings
from typing import Any

from bayeslmm.data.groups import Groups, find_groups
from bayeslmm.data.known_matrix import LABEL_LIMIT
from bayeslmm.data.relation import DenseRelation, Relation
from bayeslmm.data.sparse_precision import SparsePrecision, is_sparse
from bayeslmm.data.table import take
from bayeslmm.description.hierarchy import Hierarchy, Level
from bayeslmm.design.design import Design, used_columns
from bayeslmm.design.identifiability import (
    check_level,
    read_offset,
    read_response,
    settle_effects,
    settle_fixed,
    without_constant,
)
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.model_matrix import INTERCEPT, learn, text_hints
from bayeslmm.design.outcome import ResponseReader
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.design.wide_columns import learn_columns, learn_dense
from bayeslmm.errors import DataError
from bayeslmm.support.text import listed

_SAID = 5  # columns left out that a warning names


def build_design(
    hierarchy: Hierarchy, data: Any, missing: str = "error", reader: ResponseReader | None = None
) -> Design:
    """Join a description and data; what doesn't fit is an error that says what came and what to write.

    Parameters
    ----------
    hierarchy : Hierarchy
    data : DataFrame, Table or Mapping
        A pandas, polars or pyarrow table, or a dict of columns.
    missing : {"error", "drop"}
        What to do with rows in which a column that the model uses has no value.
    reader : ResponseReader, optional
        Of a response that isn't Gaussian.

    Returns
    -------
    Design

    Examples
    --------
    >>> h = Hierarchy(response="y", fixed="1 + x", levels=(Level(group="g"),))
    >>> data = {"y": [1.0, 2, 3, 5], "x": [0, 1, 0, 1], "g": ["a", "a", "b", "b"]}
    >>> design = build_design(h, data)
    >>> design.coef, design.levels[0].groups
    (('Intercept', 'x'), ('a', 'b'))
    """
    if INTERCEPT in hierarchy.columns:
        raise DataError(
            f"The model uses a column called {INTERCEPT!r}, which is the name of the constant column; "
            "rename it in the data and in the formula."
        )
    frame, dropped = take(data, (*used_columns(hierarchy), *(reader.columns if reader else ())), missing)
    outcome = reader.read(frame) if reader else None
    y = read_response(hierarchy.response, frame) if outcome is None else outcome.y
    offset_encoder, offset = read_offset(hierarchy.offset, frame, hierarchy.response, y if reader is None else None)
    fixed, X = (learn_columns if reader is None else learn_dense)(hierarchy.fixed, frame)
    fixed, X, left_out = settle_fixed(X, fixed)
    if reader is not None and not reader.family.has_intercept:
        fixed, X = without_constant(fixed, X)
    residual = build_residual(hierarchy.residual, frame)
    apart, rest = residual.tells_rows_apart, "the residual"
    if reader is not None and outcome is not None:
        apart, rest = reader.family.splits_rows(outcome), f"the spread of a {reader.family.words} itself"
    encoders = [fixed]
    levels: list[LevelDesign] = []
    for name, level in zip(hierarchy.names, hierarchy.levels, strict=True):
        encoder, columns = learn(level.effects, frame)
        encoder, columns, said = settle_effects(level, columns, encoder)
        left_out += said
        found = find_groups([frame[column] for column in level.group])
        check_level(level, found.labels, found.index, columns, encoder, apart, rest)
        groups, keys, relation = with_relatives(level, found, len(encoder.names))
        levels.append(
            LevelDesign(
                name=name,
                level=level,
                groups=groups,
                effects=encoder.names,
                index=found.index,
                columns=columns,
                keys=keys,
                relatives=len(groups) - len(found.labels),
                shadowed=any(other.label == level.label and other.groups != groups for other in levels),
                twins=sum(
                    other.label == level.label and not set(other.effects).isdisjoint(encoder.names) for other in levels
                ),
                relation=relation,
            )
        )
        encoders.append(encoder)
    if left_out:
        more = f" {len(left_out) - _SAID} more: see describe()." if len(left_out) > _SAID else ""
        warnings.warn(" ".join(left_out[:_SAID]) + more, UserWarning, stacklevel=3)
    return Design(
        hierarchy=hierarchy,
        y=y,
        columns=X,
        coef=fixed.names,
        levels=tuple(levels),
        residual=residual,
        rows=frame.index,
        frame=frame,
        dropped=dropped,
        offset=offset,
        offset_encoder=offset_encoder,
        left_out=left_out,
        encoders=tuple(encoders),
        text_hints=tuple(hint for encoder in encoders for hint in text_hints(encoder, frame)),
        outcome=outcome,
    )


def with_relatives(level: Level, found: Groups, r: int) -> tuple[tuple, tuple, Relation | None]:
    """Groups and keys, those of the data first and then the relatives without rows, and K in that order."""
    if level.matrix is None:
        return found.labels, found.keys, None
    known = set(level.matrix.labels)
    missing = [label for label in found.labels if label not in known]
    if missing:
        raise DataError(
            f"{level.matrix.name} of {level.label} has no {listed(missing)}, which the data have; it has "
            f"{', '.join(map(repr, level.matrix.labels[:5]))}, ... Every group of the data needs its row and column."
        )
    if level.known and r > 1:
        raise DataError(
            f"The level {level.label} has {r} effects and a covariance that is entirely known; expected one effect. "
            "Write one level per effect, such as '1' and '0 + x', each with its covariance."
        )
    sparse = is_sparse(level.matrix)
    if len(level.matrix.labels) > LABEL_LIMIT and not sparse:
        raise DataError(
            f"{level.matrix.name} of {level.label} has {len(level.matrix.labels):,} labels; at most {LABEL_LIMIT:,} "
            "are supported, because its root is dense. If its inverse is sparse, as that of every pedigree is, write "
            "precision= with that instead; or leave out relatives without rows, or fit a subset."
        )
    seen = set(found.labels)
    relatives = tuple(label for label in level.matrix.labels if label not in seen)
    width = len(level.group)
    keys = tuple((label,) if width == 1 else tuple(label.split(":", width - 1)) for label in relatives)
    groups = (*found.labels, *relatives)
    made = SparsePrecision.of(level.matrix, groups) if sparse else DenseRelation(lower=level.matrix.root(groups))
    return groups, (*found.keys, *keys), made
