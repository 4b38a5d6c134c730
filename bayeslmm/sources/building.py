"""A description and a source become a design: what `design.building` makes of rows, made of sums over them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.data.groups import find_groups
from bayeslmm.data.table import check_size, plain_columns
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.description.model_file import only_grouping, whole_numbers
from bayeslmm.design.building import with_relatives
from bayeslmm.design.counted import CountedRows
from bayeslmm.design.design import used_columns
from bayeslmm.design.identifiability import check_level, settle_effects, settle_fixed
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.model_matrix import INTERCEPT, Encoder, learn_names, names_in, text_hints, unaliased
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.formula.parse import columns_of
from bayeslmm.sources.cells import Cells, check_budget, check_columns_budget, compute_cells, count_cells
from bayeslmm.sources.design import SourceDesign
from bayeslmm.sources.expressions import Arithmetic, Column, Expression
from bayeslmm.sources.matrices import MadeColumn, Matrix, atoms_of, columns_made, matrix_of
from bayeslmm.sources.reading import REMEDY, Factor, read_number, read_terms
from bayeslmm.sources.remembered import remember
from bayeslmm.sources.rows import CellRows, rows_of_cells
from bayeslmm.sources.source import Source, ask, check_columns, open_rows, reading_texts
from bayeslmm.sources.span import check_conditioning, check_left_out
from bayeslmm.sources.survey import CATEGORIES, NUMBERS, OTHER, Moments, Survey, check_rows, moments, survey

_RESPONSE, _OFFSET = "the response", "the offset"
ADDING = ("iid", "strata")  # structures of R under which rows of one cell can be summed
RESPONSE_ATOM = "~"  # the name of the atom that is the response without its offset
_SAID = 5  # columns left out that a warning names


def build_source_design(hierarchy: Hierarchy, source: Source, missing: str = "error") -> SourceDesign:
    """Join a description and a source; what doesn't fit is an error that says what came and what to write.

    Parameters
    ----------
    hierarchy : Hierarchy
    source : Source
    missing : {"error", "drop"}

    Returns
    -------
    SourceDesign

    Raises
    ------
    DescriptionError, DataError
        For what needs rows in their order, too many cells, and all that is wrong in memory too.
    """
    return SourceBuilding(hierarchy, source, missing).design()


class SourceBuilding:
    """What is known on the way from a source to its design, in the order in which it is asked."""

    def __init__(self, hierarchy: Hierarchy, source: Source, missing: str):
        self.hierarchy = hierarchy
        _check_possible(hierarchy)
        used = used_columns(hierarchy)
        if INTERCEPT in used:
            raise DataError(
                f"The model uses a column called {INTERCEPT!r}, which is the name of the constant column; "
                "rename it in the data and in the formula."
            )
        self.source = reading_texts(source, only_grouping(hierarchy))
        table = open_rows(self.source)
        check_columns(table, used)
        self.survey: Survey = survey(table, used, missing)
        self.kinds = self.survey.kinds
        self._check_kinds()
        self._read_sides()
        self._read_atoms()

    def _read_sides(self) -> None:
        """The sides of the formula taken apart."""
        self.sides = [self.hierarchy.fixed, *(level.effects for level in self.hierarchy.levels)]
        texts = [name for name, kind in self.kinds.items() if kind == CATEGORIES]
        self.terms: list[list[tuple[Factor, ...]]] = [read_terms(text, texts) for text in self.sides]

    def _check_kinds(self) -> None:
        h = self.hierarchy
        for name in columns_of(h.response):
            self._check_number(name, "The response")
        for name in columns_of(f"offset({h.offset})") if h.offset else ():
            self._check_number(name, "The offset")
        if h.residual.weights:
            self._check_number(h.residual.weights, "The weights")
        for text in (h.fixed, *(level.effects for level in h.levels)):
            for name in names_in(text):
                if self.kinds[name] == OTHER:
                    raise DataError(
                        f"Column {name!r} holds dates or another kind than numbers and texts; expected numbers. Make a "
                        "column of numbers from it in the source, such as the days since the first date."
                    )

    def _check_number(self, name: str, role: str) -> None:
        if self.kinds[name] != NUMBERS:
            raise DataError(
                f"{role} {name!r} holds no numbers, but texts or dates; expected numbers. Cast the column in the "
                "source."
            )

    def _read_atoms(self) -> None:
        """Expressions of numbers that are multiplied, where they lie, and the keys of cells."""
        h, table, n = self.hierarchy, self.survey.table, self.survey.n
        response = read_number(h.response)
        y: Expression = Arithmetic("-", response, read_number(h.offset)) if h.offset else response
        self.atoms: dict[str, Expression] = {}
        for terms in self.terms:
            self.atoms |= atoms_of(terms)
        whole = {_RESPONSE: response} | ({_OFFSET: read_number(h.offset)} if h.offset else {})
        for text, own in (*whole.items(), *self.atoms.items()):
            for name in own.columns:
                if self.kinds[name] != NUMBERS:
                    raise DataError(f"{name!r} in {text} holds texts; expected numbers. Cast the column in the source.")
        self.state = self._remembered([response, y, *self.atoms.values()])
        plain = {name: Column(name) for name in self._plain_numbers()}
        named = {
            f"{_RESPONSE} {h.response!r}": response,
            **({f"{_OFFSET} {h.offset!r}": whole[_OFFSET]} if h.offset else {}),
        }
        found = moments(table, n, {**named, RESPONSE_ATOM: y, **plain, **self.atoms}, self.state)
        self._check_response(found, list(named))
        self.atoms[RESPONSE_ATOM] = y
        self.found: Mapping[str, Moments] = found
        self.keys = self._keys(plain, found)

    def _remembered(self, expressions: Sequence[Expression]) -> dict[str, dict[str, Any]]:
        """What transforms remember of the rows."""
        return remember(self.survey.table, self.survey.n, expressions)

    def _plain_numbers(self) -> list[str]:
        """Columns of numbers that stand on the right."""
        names = [name for text in self.sides for name in names_in(text)]
        return [name for name in dict.fromkeys(names) if self.kinds[name] == NUMBERS]

    def _check_response(self, found: Mapping[str, Moments], names: Sequence[str]) -> None:
        h, n, y = self.hierarchy, self.survey.n, found[names[0]]
        for name in names:
            check_size(name, np.array([found[name].lowest, found[name].highest]))
        if n > 1 and y.constant:
            raise DataError(
                f"The response {h.response!r} is {y.lowest:g} in all {n} rows; expected values that vary, because "
                "there is nothing to explain. Is it the right column?"
            )
        rest = found[RESPONSE_ATOM]
        size = max(max(abs(found[name].lowest), abs(found[name].highest)) for name in names)
        if h.offset and n > 1 and rest.highest - rest.lowest <= 1e-14 * size:
            raise DataError(
                f"The response {h.response!r} minus the offset {h.offset!r} is {rest.lowest:g} in all {n} rows; "
                "expected values that vary, because there is nothing left to explain."
            )

    def _keys(self, plain: Mapping[str, Expression], found: Mapping[str, Moments]) -> list[str]:
        """Columns that make the cells: groups, categories, strata, weights, and numbers of two values."""
        h = self.hierarchy
        keys = [name for level in h.levels for name in level.group]
        keys += [factor.category for terms in self.terms for term in terms for factor in term if factor.category]
        keys += [name for name in (h.residual.by, h.residual.weights) if name]
        rest = [name for name in plain if name not in keys and not found[name].constant]
        keys += two_valued(self.survey, rest, found)
        return list(dict.fromkeys(keys))

    def cells(self) -> Cells:
        """Compute sums over the rows of each cell."""
        fixed = [name for name, own in self.atoms.items() if own.columns <= set(self.keys)]
        self._count(len(self.atoms) - len(fixed))
        varying = {key for terms in self.terms[1:] for key in atoms_of(terms)}
        zeros = [name for name in varying if self.found[name].lowest <= 0.0 <= self.found[name].highest]
        zeros = [name for name in zeros if not self.found[name].constant]
        cells = compute_cells(self.survey.table, self.keys, self.atoms, self.state, self.found, fixed, zeros)
        check_rows(self.survey.n, round(cells.counts.sum()))
        return replace(cells, keys=_plain_keys(cells, self.source))

    def design(self) -> SourceDesign:
        """Make of the cells what the model needs."""
        h, n, cells = self.hierarchy, self.survey.n, self.cells()
        keys = cells.keys
        rows = rows_of_cells(cells)
        encoders, made = self._encoders(keys)
        check_columns_budget(len(rows.cell), len(cells.counts), sum(map(len, made)))
        matrices = [matrix_of(own, cells, rows, keys) for own in made]
        expanded = keys.iloc[rows.cell].reset_index(drop=True)
        residual = build_residual(h.residual, expanded, rows.counts)
        encoder, X, left_out = settle_fixed(matrices[0].columns, encoders[0], n)
        self._check_left_out(encoder, made[0])
        X_rest = _kept(encoders[0], encoder, matrices[0].rest)
        check_conditioning(X, X_rest, rows.counts, encoder.names)
        a = cells.names.index(RESPONSE_ATOM)
        counted = CountedRows(y=rows.values[a], X=X, counts=rows.counts, X_rest=X_rest, y_rest=rows.rest[a])
        settled = [encoder]
        levels: list[LevelDesign] = []
        for k in range(len(h.levels)):
            own, level, said = self._level(
                k, encoders[k + 1], made[k + 1], matrices[k + 1], keys, rows, levels, residual
            )
            settled.append(own)
            levels.append(level)
            left_out += said
        if left_out:
            more = f" {len(left_out) - _SAID} more: see describe()." if len(left_out) > _SAID else ""
            warnings.warn(" ".join(left_out[:_SAID]) + more, UserWarning, stacklevel=4)
        return SourceDesign(
            hierarchy=h, n=n, coef=encoder.names, levels=tuple(levels), residual=residual, counted=counted, cells=cells,
            kinds=self.kinds, state=self.state, source=self.source, dropped=self.survey.dropped,
            left_out=left_out, encoders=tuple(settled),
            offset_encoder=self._offset_encoder(),
            text_hints=tuple(hint for own in settled for hint in text_hints(own, keys)),
        )  # fmt: skip

    def _count(self, loose: int) -> None:
        """Count the cells, and refuse them where they are too many."""
        columns = sum(max(len(terms), 1) for terms in self.terms)
        numbers = 6 * len(self.atoms) + 2 * loose**2 + (min(loose, 8) + 1) * (2 * len(self.atoms) + 6 * columns + 8)
        cells = count_cells(self.survey.table, self.keys)
        remedies = []
        residual = self.hierarchy.residual
        if residual.weights:
            remedies.append(f"Each value of the weights {residual.weights!r} makes cells of its own: round them.")
        check_budget(cells, self.survey.n, self.keys, numbers, remedies)

    def _encoders(self, keys: pd.DataFrame) -> tuple[list[Encoder], list[list[MadeColumn]]]:
        """Per side how its columns are made of new rows, and of the cells."""
        names = [name for text in self.sides for name in names_in(text)]
        longest = max([keys[name].nunique() for name in names if name in keys], default=1)
        frame = pd.DataFrame(index=pd.RangeIndex(max(longest, 1)))
        for name in dict.fromkeys(names):
            if name in keys:
                levels = pd.Series(keys[name].unique())
                frame[name] = levels.iloc[np.arange(len(frame)) % len(levels)].reset_index(drop=True)
            else:
                frame[name] = 1.0
        encoders, made = [], []
        for text, terms in zip(self.sides, self.terms, strict=True):
            encoder = learn_names(text, frame)
            self._remind(encoder)
            encoders.append(encoder)
            made.append(columns_made(encoder, terms))
        return encoders, made

    def _offset_encoder(self) -> Encoder | None:
        text = self.hierarchy.offset
        if not text:
            return None
        names = columns_of(f"offset({text})")
        encoder = learn_names(f"0 + I({text})", pd.DataFrame({name: [1.0] for name in names}))
        self._remind(encoder)
        return encoder

    def _remind(self, encoder: Encoder) -> None:
        """Put what transforms remember of all rows in the place of what they took from a made-up frame."""
        if encoder.spec is None:
            return
        own = encoder.spec.transform_state
        real = {key: unaliased(key, encoder.aliases) for key in own}
        unknown = [name for key, name in real.items() if own[key] and name not in self.state]
        if unknown:
            raise DescriptionError(f"{unknown[0]} can't be computed where the rows are. {REMEDY}")
        own.update({key: dict(self.state[name]) for key, name in real.items() if name in self.state})

    def _check_left_out(self, encoder: Encoder, made: Sequence[MadeColumn]) -> None:
        check_left_out(self.survey.table, self.atoms, self.state, encoder, made)

    def _level(
        self,
        k: int,
        encoder: Encoder,
        made: Sequence[MadeColumn],
        matrix: Matrix,
        keys: pd.DataFrame,
        rows: CellRows,
        before: Sequence[LevelDesign],
        residual: ResidualDesign,
    ) -> tuple[Encoder, LevelDesign, tuple[str, ...]]:
        level, name = self.hierarchy.levels[k], self.hierarchy.names[k]
        settled, columns, said = settle_effects(level, matrix.columns, encoder)
        self._check_left_out(settled, made)
        found = find_groups([keys[column] for column in level.group])
        index = found.index[rows.cell]
        check_level(level, found.labels, index, columns, settled, residual.tells_rows_apart, rows=self.survey.n)
        groups, group_keys, relation = with_relatives(level, found, len(settled.names))
        design = LevelDesign(
            name=name, level=level, groups=groups, effects=settled.names, index=index, columns=columns,
            keys=group_keys, relatives=len(groups) - len(found.labels),
            shadowed=any(other.label == level.label and other.groups != groups for other in before),
            twins=sum(
                other.label == level.label and not set(other.effects).isdisjoint(settled.names) for other in before
            ),
            relation=relation, counts=rows.counts, rest=_kept(encoder, settled, matrix.rest),
            seen=_kept(encoder, settled, matrix.seen),
        )  # fmt: skip
        return settled, design, said


def _kept(before: Encoder, after: Encoder, matrix: np.ndarray) -> np.ndarray:
    """The columns that stayed."""
    if before is after:
        return matrix
    return np.ascontiguousarray(matrix[:, [before.names.index(name) for name in after.names]])


def two_valued(found: Survey, names: Sequence[str], ends: Mapping[str, Moments]) -> list[str]:
    """Which columns have two values."""
    import narwhals.stable.v2 as nw

    if not names:
        return []
    at_ends = {
        f"a{k}": (
            (nw.col(name).cast(nw.Float64) == ends[name].lowest) | (nw.col(name).cast(nw.Float64) == ends[name].highest)
        )
        .cast(nw.Float64)
        .sum()
        for k, name in enumerate(names)
    }
    counted = ask(found.table.select(**at_ends), "looking at the columns").iloc[0]
    return [name for k, name in enumerate(names) if int(counted[f"a{k}"]) == found.n]


def _plain_keys(cells: Cells, source: Source) -> pd.DataFrame:
    """The cells' keys as plain columns; texts of a CSV that only group are whole numbers where that loses nothing."""
    frame = plain_columns(cells.keys)
    if source.csv:
        frame = frame.assign(**{name: whole_numbers(frame[name]) for name in source.texts if name in frame})
    return frame


def _check_possible(hierarchy: Hierarchy) -> None:
    """Refuse what needs rows in their order, or one by one."""
    residual = hierarchy.residual
    if residual.structure not in ADDING:
        raise DescriptionError(
            f"The residual's structure {residual.structure!r} is about rows one by one, which a source does not give. "
            "Collect the rows first, as in blm.LMM(formula, relation.df()), frame.collect() or frame.toPandas(); or "
            "leave the structure out: weights and strata (by=) are computed in the source."
        )
