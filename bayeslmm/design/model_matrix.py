"""One side of a formula as a matrix: named columns, and an encoding that is remembered."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.data.table import check_one_type, holds_dates, looks_like_numbers, numbers, say_rows
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.formula.parse import columns_of, rename_columns
from bayeslmm.formula.tokens import quote
from bayeslmm.formula.transforms import OPTIONS, transforms

INTERCEPT = "Intercept"
_NAME = re.compile(r"[^\W\d]\w*")
_PLAIN = re.compile(r"[A-Za-z]\w*", re.ASCII)  # what Python reads as it stands


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """How the columns of one side of a formula are made from data.

    Attributes
    ----------
    text : str
        The formula's side: "1 + Days".
    names : tuple of str
        Names of the columns, formulaic's: "Intercept", "recipe[T.B]".
    kinds : dict of str to str
        "numbers" or "categories" for each column of the data that is used.
    spec : formulaic.ModelSpec or None
        None where all columns are the intercept or plain numbers, which needs no formulaic.
    aliases : dict of str to str
        What formulaic calls a column whose name it could not read.
    written : tuple of str
        Names of all columns that the text makes, those left out included; empty where none is.
    left_out : dict of str to array
        Per column that was left out its coefficients on those in `names`, of which it is a combination.
    """

    text: str
    names: tuple[str, ...]
    kinds: dict[str, str]
    spec: Any = None
    aliases: dict[str, str] = field(default_factory=dict)
    written: tuple[str, ...] = ()
    left_out: dict[str, np.ndarray] = field(default_factory=dict)

    def without(self, combinations: dict[int, np.ndarray]) -> Self:
        """Leave columns out, each given with its coefficients on the columns that stay.

        Examples
        --------
        >>> encoder, _ = learn("1 + x + z", pd.DataFrame({"x": [1.0, 2, 4], "z": [2.0, 4, 8]}))
        >>> encoder.without({2: np.array([0.0, 2.0])}).matrix(pd.DataFrame({"x": [5.0], "z": [10.0]}))
        array([[1., 5.]])
        """
        if not combinations:
            return self
        names = tuple(name for j, name in enumerate(self.names) if j not in combinations)
        left_out = {self.names[j]: coefficients for j, coefficients in combinations.items()}
        return replace(self, names=names, written=self.names, left_out=left_out)

    @property
    def terms(self) -> tuple[tuple[int, frozenset[str]], ...]:
        """Per column, which term it belongs to, and the columns of the data in that term.

        Examples
        --------
        >>> encoder, _ = learn("1 + x + x:f", pd.DataFrame({"x": [1, 2, 3], "f": ["a", "b", "b"]}))
        >>> [(name, term, sorted(of)) for name, (term, of) in zip(encoder.names, encoder.terms, strict=True)]
        [('Intercept', 0, []), ('x', 1, ['x']), ('x:f[T.b]', 2, ['f', 'x'])]
        """
        if self.spec is None:
            return tuple((j, frozenset({name} - {INTERCEPT})) for j, name in enumerate(self.names))
        every, real = self.written or self.names, {alias: name for name, alias in self.aliases.items()}
        of: dict[str, tuple[int, frozenset[str]]] = {}
        for number, (term, columns) in enumerate(self.spec.term_indices.items()):
            variables = {real.get(name, name) for name in map(str, self.spec.term_variables[term])}
            of |= dict.fromkeys((every[j] for j in columns), (number, frozenset(variables & set(self.kinds))))
        return tuple(of[name] for name in self.names)

    @property
    def categorical(self) -> frozenset[int]:
        """Numbers of the terms that are the categories of one column, as `terms` counts them.

        Examples
        --------
        >>> sorted(learn("1 + x + f", pd.DataFrame({"x": [1, 2, 3], "f": ["a", "b", "b"]}))[0].categorical)
        [2]
        """
        if self.spec is None:
            return frozenset()
        kinds = {expression: str(kind.value) for expression, (kind, _) in self.spec.encoder_state.items()}
        alone = (tuple(map(str, (factor.expr for factor in term.factors))) for term in self.spec.term_indices)
        return frozenset(
            number for number, of in enumerate(alone) if len(of) == 1 and kinds.get(of[0]) == "categorical"
        )

    def matrix(self, frame: pd.DataFrame) -> np.ndarray:
        """Make the matrix for rows of data that are encoded as the first ones were.

        Raises
        ------
        DataError
            Where a row needs a column that was left out: its combination of the others doesn't hold there.

        Examples
        --------
        >>> encoder, _ = learn("1 + x", pd.DataFrame({"x": [1, 2]}))
        >>> encoder.matrix(pd.DataFrame({"x": [5]}))
        array([[1., 5.]])
        """
        for name, kind in self.kinds.items():
            if kind == "numbers":
                numbers(frame[name], "column")
            elif frame[name].dtype.kind in "biuf":
                raise DataError(
                    f"Column {name!r} holds numbers; expected categories, as in the data that the model was built on."
                )
        every = self.written or self.names
        if self.spec is None:
            whole = _plain_matrix(every, frame)
        else:
            whole = _check(_materialise(self.spec, self.text, frame, self.kinds, self.aliases), every, frame)
        return self._kept(whole, frame) if self.written else whole

    def _kept(self, whole: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
        place = {name: j for j, name in enumerate(self.written)}
        kept = np.ascontiguousarray(whole[:, [place[name] for name in self.names]])
        for name, coefficients in self.left_out.items():
            column = whole[:, place[name]]
            size = np.abs(column) + np.abs(kept) @ np.abs(coefficients)
            needed = np.abs(column - kept @ coefficients) > 1e-7 * size
            if needed.any():
                raise DataError(
                    f"Nothing can be said of {say_rows(frame.index, needed)}: {name!r} was left out of {self.text!r}, "
                    f"because the data of the model can't tell it from the other columns, and matters there. Expected "
                    "rows such as those of the model; leave others out."
                )
        return kept


def learn_number(text: str, frame: pd.DataFrame, role: str) -> tuple[Encoder, np.ndarray]:
    """Evaluate a column of numbers, or a transform such as "log(y)" or "I(a - b)", and remember how.

    Examples
    --------
    >>> learn_number("log(y)", pd.DataFrame({"y": [1.0, np.e]}), "the response")[1]
    array([0., 1.])
    """
    used = columns_of(text)
    values = _all_numbers(used, frame, role)
    if len(used) == 1 and quote(used[0]) == text:
        return Encoder(text=text, names=used, kinds={used[0]: "numbers"}), values[used[0]].to_numpy()
    encoder, matrix = learn(f"0 + {text}", values)
    return encoder, matrix[:, 0]


def number_of(encoder: Encoder, frame: pd.DataFrame, role: str) -> np.ndarray:
    """Evaluate for other rows what `learn_number` has learned.

    Examples
    --------
    >>> encoder, _ = learn_number("center(n)", pd.DataFrame({"n": [1.0, 3.0]}), "the offset")
    >>> number_of(encoder, pd.DataFrame({"n": [5]}), "the offset")
    array([3.])
    """
    return encoder.matrix(_all_numbers(tuple(encoder.kinds), frame, role))[:, 0]


def _all_numbers(used: Sequence[str], frame: pd.DataFrame, role: str) -> pd.DataFrame:
    return pd.DataFrame({name: numbers(frame[name], role) for name in used}, index=frame.index)


def names_in(text: str) -> tuple[str, ...]:
    """Return the data columns that one side of a formula uses.

    Examples
    --------
    >>> names_in("1 + Days")
    ('Days',)
    """
    plain = _plain_terms(text)
    if plain is not None:
        return tuple(name for name in plain if name != INTERCEPT)
    return tuple(columns_of(text))


def learn(text: str, frame: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    """Make the matrix of one side of a formula, and remember how.

    Parameters
    ----------
    text : str
        A right-hand side without bars, in formulaic's syntax.
    frame : pandas.DataFrame
        Complete columns, as `take` returns them.

    Returns
    -------
    encoder : Encoder
    matrix : numpy.ndarray
        Rows by columns, float64, C-contiguous.

    Examples
    --------
    >>> encoder, matrix = learn("1 + f", pd.DataFrame({"f": ["a", "b"]}))
    >>> encoder.names
    ('Intercept', 'f[T.b]')
    >>> matrix
    array([[1., 0.],
           [1., 1.]])
    """
    plain = _plain_terms(text)
    if plain is not None and all(name == INTERCEPT or frame[name].dtype.kind in "biuf" for name in plain):
        kinds = {name: "numbers" for name in plain if name != INTERCEPT}
        return Encoder(text=text, names=plain, kinds=kinds), _plain_matrix(plain, frame)
    return _learn_with_formulaic(text, frame)


def text_hints(encoder: Encoder, frame: pd.DataFrame) -> list[str]:
    """Point out text that looks like numbers and is used as categories.

    Examples
    --------
    >>> frame = pd.DataFrame({"f": ["1", "2", "3"]})
    >>> len(text_hints(learn("1 + f", frame)[0], frame))
    1
    """
    return [
        f"Column {name!r} is text that looks like numbers, and is used as categories; for a slope write "
        f"data[{name!r}] = pd.to_numeric(data[{name!r}])."
        for name, kind in encoder.kinds.items()
        if kind == "categories" and looks_like_numbers(frame[name]) == "all"
    ]


def _plain_terms(text: str) -> tuple[str, ...] | None:
    """Names of the columns when the text is a sum of 0 or 1 and plain names, else None."""
    terms = [term.strip() for term in text.split("+")]
    intercept = True
    if terms[0] in ("0", "1"):
        intercept = terms[0] == "1"
        terms = terms[1:]
    if len(set(terms)) < len(terms) or not all(_NAME.fullmatch(term) for term in terms):
        return None
    return (INTERCEPT, *terms) if intercept else tuple(terms)


def _plain_matrix(names: tuple[str, ...], frame: pd.DataFrame) -> np.ndarray:
    matrix = np.empty((len(frame), len(names)))
    for j, name in enumerate(names):
        matrix[:, j] = 1.0 if j == 0 and name == INTERCEPT else frame[name].to_numpy()
    return matrix


def learn_names(text: str, frame: pd.DataFrame) -> Encoder:
    """Learn which columns the text makes from a frame that has every category, whatever its numbers.

    What transforms remember of numbers is then that frame's, and has to be replaced.

    Examples
    --------
    >>> learn_names("1 + log(x):f", pd.DataFrame({"x": [1.0, 1.0], "f": ["a", "b"]})).names
    ('Intercept', 'log(x):f[a]', 'log(x):f[b]')
    """
    plain = _plain_terms(text)
    if plain is not None and all(name == INTERCEPT or frame[name].dtype.kind in "biuf" for name in plain):
        return Encoder(text=text, names=plain, kinds={name: "numbers" for name in plain if name != INTERCEPT})
    return _encoded(text, frame)[0]


def _learn_with_formulaic(text: str, frame: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    encoder, matrix = _encoded(text, frame)
    return encoder, _check(matrix, encoder.names, frame)


def _encoded(text: str, frame: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    used = tuple(columns_of(text))  # refuses everything off the allow-list before formulaic sees it
    from formulaic import Formula, ModelSpec

    aliases = aliases_for(used)
    formula = Formula(rename_columns(text, aliases))
    looked_up = {str(factor.expr) for term in formula for factor in term.factors}
    kinds = {name: _kind(frame[name], plainly=aliases.get(name, name) in looked_up) for name in used}
    spec = ModelSpec(formula=formula, output="numpy", na_action="ignore")
    matrix, spec = _materialise(spec, text, frame, kinds, aliases, both=True)
    names = tuple(_counted_from_one(unaliased(name, aliases)) for name in spec.column_names)
    for expression, (kind, state) in spec.encoder_state.items():
        if str(kind.value) == "categorical" and len(state["categories"]) < 2:
            only = next(iter(state["categories"]), None)
            raise DataError(
                f"{unaliased(expression, aliases)} has one category only ({str(only)!r}), so nothing can be said of "
                f"its effect; expected two or more. Leave it out of {text!r}."
            )
    return Encoder(text=text, names=names, kinds=kinds, spec=spec, aliases=aliases), matrix


def aliases_for(used: Sequence[str]) -> dict[str, str]:
    """Names for the columns that formulaic, whose calls are Python's, couldn't read or would take for something else.

    Examples
    --------
    >>> aliases_for(("x", "lambda", "body mass"))
    {'lambda': 'column_0', 'body mass': 'column_1'}
    """
    from formulaic.transforms import TRANSFORMS

    taken = {*OPTIONS, *TRANSFORMS, *transforms(), "True", "False", "None"}
    hard = [name for name in used if not _PLAIN.fullmatch(name) or keyword.iskeyword(name) or name in taken]
    free = (alias for k in range(len(used) + len(hard)) if (alias := f"column_{k}") not in used)
    return dict(zip(hard, free, strict=False))


def unaliased(text: str, aliases: dict[str, str]) -> str:
    """The name of a column of the matrix with those of the data: plain as a factor, quoted inside a call."""
    for name, alias in aliases.items():
        text = re.sub(rf"(?:^|(?<=:)){alias}\b", name, text)
        text = re.sub(rf"\b{alias}\b", quote(name), text)
    return text


def _counted_from_one(name: str) -> str:
    """Columns of a raw polynomial counted by their power, as those of an orthogonal one are.

    Examples
    --------
    >>> _counted_from_one("poly(x, 2, raw=True)[0]:z"), _counted_from_one("poly(x, 2)[1]")
    ('poly(x, 2, raw=True)[1]:z', 'poly(x, 2)[1]')
    """

    def one_more(found: re.Match[str]) -> str:
        return f"{found[1]}[{int(found[2]) + 1}]"

    return re.sub(r"(poly\([^\[\]]*(?:raw=True|, True)[^\[\]]*\))\[([0-9]+)\]", one_more, name)


def _kind(column: pd.Series, *, plainly: bool) -> str:
    if column.dtype.kind in "biuf":
        return "numbers"
    if column.dtype.kind == "c" or holds_dates(column):
        numbers(column, "column")
    check_one_type(column)
    if plainly and looks_like_numbers(column) == "most":
        numbers(column, "column")
    return "categories"


def _materialise(
    spec: Any, text: str, frame: pd.DataFrame, kinds: dict[str, str], aliases: dict[str, str], both: bool = False
) -> Any:
    import warnings

    from formulaic.errors import DataMismatchWarning

    used = frame[list(kinds)].reset_index(drop=True)
    if "C(" not in text:
        # products and powers of integers must not wrap around
        whole = [name for name in used if used[name].dtype.kind in "iu"]
        used = used.astype(dict.fromkeys(whole, np.float64))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DataMismatchWarning)
            result = spec.get_model_matrix(used.rename(columns=aliases), context=transforms())
    except DataMismatchWarning as warning:
        raise _unknown_category(spec, frame, str(warning), aliases) from None
    except Exception as error:
        reason = unaliased(str(error), aliases)
        raise DescriptionError(f"{text!r} cannot be computed from the data: {reason}") from error
    matrix = np.ascontiguousarray(np.asarray(result), dtype=np.float64)
    return (matrix, result.model_spec) if both else matrix


def _unknown_category(spec: Any, frame: pd.DataFrame, message: str, aliases: dict[str, str]) -> DataError:
    for written, (kind, state) in spec.encoder_state.items():
        expression = unaliased(written, aliases)
        if str(kind.value) != "categorical" or expression not in frame:
            continue
        known = list(state["categories"])
        bad = ~frame[expression].astype(object).isin(known).to_numpy()
        if bad.any():
            new = frame[expression].astype(object)[bad].iloc[0]
            listed = ", ".join(repr(value) for value in known[:10]) + (", ..." if len(known) > 10 else "")
            return DataError(
                f"Column {expression!r} holds {new!r} ({say_rows(frame.index, bad)}), a category that the "
                f"model was not built on; expected one of {listed}."
            )
    found = re.search(r"\{(.*)\}", message)
    return DataError(
        f"The data hold categories that the model was not built on: {found.group(1) if found else message}."
    )


def _check(matrix: np.ndarray, names: tuple[str, ...], frame: pd.DataFrame) -> np.ndarray:
    bad = ~np.isfinite(matrix)
    if bad.any():
        j = int(np.flatnonzero(bad.any(axis=0))[0])
        raise DataError(
            f"{names[j]} is not a finite number in {say_rows(frame.index, bad[:, j])}, though the columns "
            "it is made of are; expected finite values. A logarithm or root of a number that is zero or "
            "below is the usual cause."
        )
    return matrix
