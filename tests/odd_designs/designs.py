"""Odd designs, drawn by hypothesis: a formula, and a table of a few rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

Columns = dict[str, list]


@dataclass(frozen=True)
class Term:
    """One bar term: its text, its grouping column, its effects as functions of the table, whether correlated."""

    text: str
    group: tuple[str, ...]
    effects: Callable[[dict[str, np.ndarray]], np.ndarray]
    correlated: bool


def _stack(*names: str) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Columns by name; "1" is the constant."""
    return lambda t: np.column_stack([np.ones(len(t["y"])) if name == "1" else t[name] for name in names])


def _indicators(t: dict[str, np.ndarray]) -> np.ndarray:
    return (t["f"][:, None] == np.unique(t["f"])).astype(float)


def _treatment(t: dict[str, np.ndarray]) -> np.ndarray:
    return np.column_stack([np.ones(len(t["y"])), _indicators(t)[:, 1:]])


def _term(effects: str, bar: str, group: str, columns: Callable) -> Term:
    return Term(f"({effects} {bar} {group})", tuple(group.split(":")), columns, bar == "|")


TERMS: dict[str, tuple[Term, ...]] = {
    term_set: tuple(terms)
    for term_set, terms in {
        "intercept": [_term("1", "|", "g", _stack("1"))],
        "slope": [_term("1 + x", "|", "g", _stack("1", "x"))],
        "slope, independent": [_term("1 + x", "||", "g", _stack("1", "x"))],
        "slope alone": [_term("0 + x", "|", "g", _stack("x"))],
        "two slopes": [_term("1 + x + w", "|", "g", _stack("1", "x", "w"))],
        "two slopes, independent": [_term("1 + x + w", "||", "g", _stack("1", "x", "w"))],
        "slopes alone": [_term("0 + x + w", "|", "g", _stack("x", "w"))],
        "a factor": [_term("0 + f", "|", "g", _indicators)],
        "a factor, treatment": [_term("1 + f", "|", "g", _treatment)],
        "slope apart": [_term("1", "|", "g", _stack("1")), _term("0 + x", "|", "g", _stack("x"))],
        "twice the same": [_term("1", "|", "g", _stack("1")), _term("1", "|", "twin", _stack("1"))],
        "slopes twice": [_term("1 + x", "|", "g", _stack("1", "x")), _term("1 + x", "|", "twin", _stack("1", "x"))],
        "crossed": [_term("1", "|", "g", _stack("1")), _term("1", "|", "h", _stack("1"))],
        "crossed slopes": [_term("1 + x", "|", "g", _stack("1", "x")), _term("0 + w", "|", "h", _stack("w"))],
        "nested": [_term("1", "|", "g:h", _stack("1")), _term("1", "|", "g", _stack("1"))],
        "nested slopes": [_term("1", "|", "g:h", _stack("1")), _term("1 + x", "||", "g", _stack("1", "x"))],
    }.items()
}
FIXED = ("1", "0", "1 + x", "0 + x", "x + w", "f", "0 + f", "f * v", "f + x", "x + I(x ** 2)")
GROUPINGS = ("even", "random", "singletons", "pairs", "one large")
NUMBERS = (
    "normal",
    "counts",
    "constant in groups",
    "of groups, nearly",
    "years",
    "far",
    "binary",
    "sparse",
    "times 1e-9",
)
OUTCOMES = ("effects", "noise", "groups alone", "integers", "exact", "nearly exact", "two values")


@dataclass(frozen=True, kw_only=True)
class OddDesign:
    """What hypothesis draws; `table` makes the data of it."""

    rows: int
    fixed: str
    terms: str
    grouping: str
    x: str
    w: str
    outcome: str
    scale: float
    duplicated: bool
    seed: int

    @property
    def formula(self) -> str:
        """In lme4's notation."""
        return f"y ~ {self.fixed} + {' + '.join(term.text for term in TERMS[self.terms])}"

    def table(self) -> dict[str, np.ndarray]:
        """Columns y, x, w, f, v, g, h and twin, which is g under other labels."""
        rng = np.random.default_rng(self.seed)
        n = (self.rows + 1) // 2 if self.duplicated else self.rows
        g = _grouping(self.grouping, n, rng)
        x = _numbers(self.x, g, rng)
        t = {"x": x, "w": 2 * x + 1 if self.w == "of x" else _numbers(self.w, g, rng)}
        t["g"], t["h"] = np.array([f"g{k}" for k in g]), np.array([f"h{k}" for k in rng.integers(0, 3, n)])
        t["twin"] = np.array([f"t{k}" for k in (7 * g + 3) % 101])
        t["f"], t["v"] = rng.choice(list("abc"), n), rng.choice(list("pq"), n)
        t["y"] = self.scale * _outcome(self.outcome, t, g, rng)
        if self.duplicated:
            t = {name: np.concatenate([values, values]) for name, values in t.items()}
        return t


def _grouping(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "even":
        return np.arange(n) % max(2, n // 4)
    if kind == "random":
        return rng.integers(0, max(2, n // 3), n)
    if kind == "singletons":  # all alone but two rows
        return np.maximum(np.arange(n) - 1, 0)
    if kind == "pairs":
        return np.arange(n) // 2
    return np.where(np.arange(n) < n - 2, 0, np.arange(n))


def _numbers(kind: str, g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = g.size
    by_group = rng.normal(size=g.max() + 1).round(1)[g]
    return {
        "normal": rng.normal(1.0, 1.0, n).round(3),
        "counts": (np.arange(n) // 2 % 3).astype(float),
        "constant in groups": by_group,
        "of groups, nearly": by_group + 1e-3 * rng.normal(size=n).round(2),
        "years": 2006.0 + np.arange(n) % 5,
        "far": 1e6 + rng.integers(0, 8, n),
        "binary": rng.integers(0, 2, n).astype(float),
        "sparse": np.where(rng.random(n) < 0.3, rng.normal(size=n).round(2), 0.0),
        "times 1e-9": 1e-9 * rng.normal(size=n).round(3),
    }[kind]


def _outcome(kind: str, t: dict[str, np.ndarray], g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = g.size
    z = (t["x"] - t["x"].mean()) / (t["x"].std() or 1.0)
    effects = rng.normal(size=(g.max() + 1, 2))
    signal = effects[g, 0] + 2.0 * effects[g, 1] * z
    return {
        "effects": 1.0 + 0.5 * z + signal + 0.3 * rng.normal(size=n),
        "noise": rng.normal(size=n),
        "groups alone": 10.0 * effects[g, 0] + 1e-3 * rng.normal(size=n),
        "integers": rng.integers(0, 4, n).astype(float),
        "exact": signal,
        "nearly exact": signal + 1e-7 * rng.normal(size=n),
        "two values": (rng.random(n) < 0.5).astype(float),
    }[kind]


odd_designs = st.builds(
    OddDesign,
    rows=st.integers(6, 16),
    fixed=st.sampled_from(FIXED),
    terms=st.sampled_from(list(TERMS)),
    grouping=st.sampled_from(GROUPINGS),
    x=st.sampled_from(NUMBERS),
    w=st.sampled_from((*NUMBERS, "of x")),
    outcome=st.sampled_from(OUTCOMES),
    scale=st.sampled_from((1.0, 1e-12, 1e12)),
    duplicated=st.booleans(),
    seed=st.integers(0, 10_000),
)
