"""Arithmetic of a formula as expressions that an engine evaluates: one small class a kind.

Each makes a Narwhals expression of 64-bit floats, null where the number does not exist (a logarithm of zero, a
division by zero): engines differ in what they do there, and nulls are counted and refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

State = Mapping[str, Mapping[str, Any]]
"""What transforms remember, by their text, as formulaic keeps it."""

_LARGEST_EXPONENT = 709.0  # of e: beyond it there is no number


class Expression(ABC):
    """A number per row."""

    @property
    @abstractmethod
    def columns(self) -> frozenset[str]:
        """Columns of the data that it is made of."""

    @abstractmethod
    def evaluate(self, state: State) -> Any:
        """The Narwhals expression."""

    @property
    def inside(self) -> tuple[Expression, ...]:
        """Expressions that it is made of, the first to be known first."""
        return ()


@dataclass(frozen=True)
class Column(Expression):
    """A column of the data."""

    name: str

    @property
    def columns(self) -> frozenset[str]:
        """Itself."""
        return frozenset({self.name})

    def evaluate(self, state: State) -> Any:
        """The column as floats."""
        import narwhals.stable.v2 as nw

        return nw.col(self.name).cast(nw.Float64)


@dataclass(frozen=True)
class Number(Expression):
    """A number."""

    value: float

    @property
    def columns(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def evaluate(self, state: State) -> Any:
        """The number, as Python has it: beside expressions it is one of their kind."""
        return float(self.value)


@dataclass(frozen=True)
class Arithmetic(Expression):
    """Two expressions joined by +, -, *, / or **."""

    sign: str
    left: Expression
    right: Expression

    @property
    def columns(self) -> frozenset[str]:
        """Those of both."""
        return self.left.columns | self.right.columns

    @property
    def inside(self) -> tuple[Expression, ...]:
        """Both."""
        return (self.left, self.right)

    def evaluate(self, state: State) -> Any:
        """Null where a divisor is zero, or a power isn't a number."""
        a, b = self.left.evaluate(state), self.right.evaluate(state)
        if self.sign == "+":
            return a + b
        if self.sign == "-":
            return a - b
        if self.sign == "*":
            return a * b
        if self.sign == "/":
            return a / (b if isinstance(b, float) and b else _where(_lifted(b) != 0.0, b))
        return _power(a, b)


@dataclass(frozen=True)
class Negative(Expression):
    """An expression with the other sign."""

    of: Expression

    @property
    def columns(self) -> frozenset[str]:
        """Its own."""
        return self.of.columns

    @property
    def inside(self) -> tuple[Expression, ...]:
        """What is negated."""
        return (self.of,)

    def evaluate(self, state: State) -> Any:
        """0 minus it."""
        return 0.0 - self.of.evaluate(state)


@dataclass(frozen=True)
class Call(Expression):
    """An elementwise function: log, log10, log2, exp, sqrt, abs, or I, which does nothing."""

    name: str
    of: Expression

    @property
    def columns(self) -> frozenset[str]:
        """Its own."""
        return self.of.columns

    @property
    def inside(self) -> tuple[Expression, ...]:
        """Its argument."""
        return (self.of,)

    def evaluate(self, state: State) -> Any:
        """Null where the function has no value."""
        x = self.of.evaluate(state)
        if self.name == "I":
            return x
        x = _lifted(x)
        if self.name == "abs":
            return x.abs()
        if self.name == "sqrt":
            return _where(x >= 0.0, x).sqrt()
        if self.name == "exp":
            return _where(x <= _LARGEST_EXPONENT, x).exp()
        positive = _where(x > 0.0, x)
        return positive.log() if self.name == "log" else positive.log({"log10": 10, "log2": 2}[self.name])


@dataclass(frozen=True)
class Standardised(Expression):
    """center(x) or scale(x): x less its mean, over its standard deviation.

    Attributes
    ----------
    text : str
        As formulaic writes the call, under which it remembers the mean and the SD.
    centred, divided : bool
    ddof : int
    """

    text: str
    of: Expression
    centred: bool
    divided: bool
    ddof: int = 1

    @property
    def columns(self) -> frozenset[str]:
        """Its own."""
        return self.of.columns

    @property
    def inside(self) -> tuple[Expression, ...]:
        """Its argument."""
        return (self.of,)

    def evaluate(self, state: State) -> Any:
        """By the mean and SD that are remembered."""
        x, own = self.of.evaluate(state), state[self.text]
        x = x if own["center"] is None else x - float(own["center"])
        return x if own["scale"] is None else x / float(own["scale"])


@dataclass(frozen=True)
class Polynomial:
    """poly(x, degree): several columns, orthonormal over the rows, or powers of x where it is `raw`."""

    text: str
    of: Expression
    degree: int
    raw: bool

    def column(self, k: int) -> Expression:
        """Its column of power k, from 1."""
        return Arithmetic("**", self.of, Number(float(k))) if self.raw else PolynomialColumn(self, k)

    def monic(self, power: int, state: State) -> Any:
        """The polynomial of that power with leading coefficient one, from its `alpha` and `norms2`."""
        x, own = self.of.evaluate(state), state[self.text]
        if power == 0:
            return _lifted(1.0)
        before, now = 1.0, x - float(own["alpha"][0])
        for k in range(1, power):
            ratio = float(own["norms2"][k]) / float(own["norms2"][k - 1])
            before, now = now, (x - float(own["alpha"][k])) * now - before * ratio
        return now


@dataclass(frozen=True)
class PolynomialColumn(Expression):
    """One column of an orthogonal polynomial, by its three-term recurrence."""

    whole: Polynomial
    power: int

    @property
    def columns(self) -> frozenset[str]:
        """Those of x."""
        return self.whole.of.columns

    @property
    def inside(self) -> tuple[Expression, ...]:
        """What the polynomial is of."""
        return (self.whole.of,)

    def evaluate(self, state: State) -> Any:
        """The recurrence, in units of its norm."""
        norm = float(state[self.whole.text]["norms2"][self.power]) ** 0.5
        return self.whole.monic(self.power, state) / norm


def _lifted(x: Any) -> Any:
    """A number as an expression."""
    import narwhals.stable.v2 as nw

    return nw.lit(x) if isinstance(x, float) else x


def _where(condition: Any, x: Any) -> Any:
    """The expression where the condition holds, null elsewhere."""
    import narwhals.stable.v2 as nw

    return nw.when(condition).then(_lifted(x)).otherwise(None)


def _power(a: Any, b: Any) -> Any:
    """Whole powers by multiplication, which rounds alike everywhere; others of numbers that have them."""
    if isinstance(a, float) and isinstance(b, float):
        return a**b
    if isinstance(b, float) and b == int(b) and abs(b) <= 20:
        out: Any = 1.0
        for _ in range(abs(int(b))):
            out = a * out
        return out if b >= 0 else 1.0 / _where(_lifted(out) != 0.0, out)
    a = _lifted(a)
    if isinstance(b, float) and b == int(b):
        return (a if b >= 0 else _where(a != 0.0, a)) ** b
    return _where(a >= 0.0 if isinstance(b, float) and b > 0 else a > 0.0, a) ** b
