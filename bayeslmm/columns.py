"""One side of a formula as a matrix: named columns, an encoding that is remembered, a check of its rank."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.calls import transforms
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.formula import columns_of
from bayeslmm.frame import check_one_type, holds_dates, looks_like_numbers, numbers, say_rows

INTERCEPT = "Intercept"
_NAME = re.compile(r"[^\W\d]\w*")


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
    """

    text: str
    names: tuple[str, ...]
    kinds: dict[str, str]
    spec: Any = None

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
        of = {
            self.spec.column_names[j]: (number, frozenset(map(str, self.spec.term_variables[term])) & set(self.kinds))
            for number, (term, columns) in enumerate(self.spec.term_indices.items())
            for j in columns
        }
        return tuple(of[name] for name in self.names)

    def matrix(self, frame: pd.DataFrame) -> np.ndarray:
        """Make the matrix for rows of data that are encoded as the first ones were.

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
        if self.spec is None:
            return _plain_matrix(self.names, frame)
        return _check(_materialise(self.spec, self.text, frame, self.kinds), self.names, frame)


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
        Complete columns, as `bayeslmm.frame.take` returns them.

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


def dependencies(matrix: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """Return one equation for each column that is a combination of the columns before it.

    Examples
    --------
    >>> x = np.arange(4.0)
    >>> dependencies(np.column_stack([np.ones(4), x, 3 + 2 * x]), ("Intercept", "x", "z"))
    ['z = 3 Intercept + 2 x']
    """
    n, p = matrix.shape
    if p == 0:
        return []
    largest = np.abs(matrix).max(axis=0)
    scaled = matrix / np.where(largest > 0, largest, 1.0)
    ones = np.flatnonzero((scaled == 1.0).all(axis=0))[:1]
    if ones.size:
        others = np.arange(p) != ones[0]
        scaled = scaled - np.where(others, scaled.mean(axis=0), 0.0)
    norms = np.sqrt(np.einsum("ij,ij->j", scaled, scaled) / n)
    eps = np.finfo(float).eps
    flat = norms < 16 * eps
    if not flat.any():
        unit = scaled / norms
        if np.linalg.eigvalsh(unit.T @ unit / n)[0] > 1e-8:
            return []
    # slow and sure: Gram-Schmidt, twice, so that the later column is the one named
    tolerance = np.maximum(1e-9, 100 * eps / np.where(flat, 1.0, norms))
    order = [*ones.tolist(), *(j for j in range(p) if j not in ones)]
    basis = np.empty((n, 0))
    kept: list[int] = []
    found: dict[int, str] = {}
    for j in order:
        rest = scaled[:, j] / (np.sqrt(n) * (1.0 if flat[j] else norms[j]))
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if flat[j] or size < tolerance[j]:
            found[j] = _equation(matrix, names, kept, j)
        else:
            basis = np.column_stack([basis, rest / size])
            kept.append(j)
    return [found[j] for j in sorted(found)]


def _equation(matrix: np.ndarray, names: tuple[str, ...], kept: list[int], j: int) -> str:
    if not matrix[:, j].any():
        return f"{names[j]} = 0"
    scale = np.linalg.norm(matrix[:, kept], axis=0)
    weights = np.linalg.lstsq(matrix[:, kept] / scale, matrix[:, j], rcond=None)[0]
    matter = np.abs(weights) > 1e-7 * np.linalg.norm(matrix[:, j])
    said = ""
    for k, weight in zip(np.array(kept)[matter], (weights / scale)[matter], strict=True):
        sign = (" - " if weight < 0 else " + ") if said else ("-" if weight < 0 else "")
        factor = f"{abs(weight):.4g}"
        said += f"{sign}{'' if factor == '1' else factor + ' '}{names[k]}"
    return f"{names[j]} = {said}"


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


def _learn_with_formulaic(text: str, frame: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    used = tuple(columns_of(text))  # refuses everything off the allow-list before formulaic sees it
    from formulaic import Formula, ModelSpec

    formula = Formula(text)
    looked_up = {str(factor.expr) for term in formula for factor in term.factors if factor.expr in used}
    kinds = {name: _kind(frame[name], plainly=name in looked_up) for name in used}
    spec = ModelSpec(formula=formula, output="numpy", na_action="ignore")
    matrix, spec = _materialise(spec, text, frame, kinds, both=True)
    names = tuple(spec.column_names)
    for expression, (kind, state) in spec.encoder_state.items():
        if str(kind.value) == "categorical" and len(state["categories"]) < 2:
            only = next(iter(state["categories"]), None)
            raise DataError(
                f"{expression} has one category only ({str(only)!r}), so nothing can be said of its effect; "
                f"expected two or more. Leave it out of {text!r}."
            )
    return Encoder(text=text, names=names, kinds=kinds, spec=spec), _check(matrix, names, frame)


def _kind(column: pd.Series, *, plainly: bool) -> str:
    if column.dtype.kind in "biuf":
        return "numbers"
    if column.dtype.kind == "c" or holds_dates(column):
        numbers(column, "column")
    check_one_type(column)
    if plainly and looks_like_numbers(column) == "most":
        numbers(column, "column")
    return "categories"


def _materialise(spec: Any, text: str, frame: pd.DataFrame, kinds: dict[str, str], both: bool = False) -> Any:
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
            result = spec.get_model_matrix(used, context=transforms())
    except DataMismatchWarning as warning:
        raise _unknown_category(spec, frame, str(warning)) from None
    except Exception as error:
        raise DescriptionError(f"{text!r} cannot be computed from the data: {error}") from error
    matrix = np.ascontiguousarray(np.asarray(result), dtype=np.float64)
    return (matrix, result.model_spec) if both else matrix


def _unknown_category(spec: Any, frame: pd.DataFrame, message: str) -> DataError:
    for expression, (kind, state) in spec.encoder_state.items():
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
