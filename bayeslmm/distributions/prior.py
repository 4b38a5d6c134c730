"""One prior: a distribution by PyMC's name and parameters, its text, and its density in plain numpy.

Two names are added for standard deviations: ``PenalizedComplexity(upper, alpha)``, the exponential with
P(sd > upper) = alpha (Simpson et al. 2017), and ``InverseGammaVariance(alpha, beta)``, an inverse gamma
on the variance, kept to show why not.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np

from bayeslmm.distributions.densities import FAMILIES, DensityFamily, Law, lkj_draw
from bayeslmm.errors import PriorError, did_you_mean

_MEANT_NAMES = {
    "gaussian": "Normal",
    "halft": "HalfStudentT",
    "student": "StudentT",
    "t": "StudentT",
    "invgamma": "InverseGamma",
    "lkjcorr": "LKJ",
    "lkjcholeskycov": "LKJ",
    "pc": "PenalizedComplexity",
    "pcprior": "PenalizedComplexity",
}
_MEANT_PARAMETERS = {
    "sd": "sigma",
    "scale": "sigma",
    "std": "sigma",
    "df": "nu",
    "loc": "mu",
    "mean": "mu",
    "rate": "lam",
}
_WHOLE = {"LKJ": "matrices", "Dirichlet": "shares"}  # not of single numbers
_LONGEST = 10_000  # characters of a prior's text


@dataclass(frozen=True, init=False)
class Prior:
    """A distribution by PyMC's name and parameters: a value, with its density in plain numpy.

    Parameters
    ----------
    name : str
        A continuous distribution of PyMC, "LKJ", "Dirichlet", "PenalizedComplexity" or "InverseGammaVariance".
    **params : float
        Its parameters, by keyword; for Dirichlet one number or a list of them.

    Examples
    --------
    >>> prior = Prior("HalfStudentT", nu=3, sigma=1.5)
    >>> prior
    Prior("HalfStudentT", nu=3, sigma=1.5)
    >>> prior == Prior.parse("HalfStudentT(nu=3, sigma=1.5)")
    True
    >>> float(round(prior.logpdf(1.0), 4))
    -0.9895
    """

    name: str
    items: tuple[tuple[str, Any], ...]

    def __init__(self, name: str, *unnamed: Any, **params: Any):
        family = _family(name)
        if unnamed:
            came = ", ".join(map(repr, unnamed))
            raise PriorError(f"Parameters are given by keyword, but {came} came alone. Write {_call(name)}.")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "items", _checked(name, family, params))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={_number(value)}' for key, value in self.items)})"

    def __repr__(self) -> str:
        params = (f"{key}={_number(value)}" for key, value in self.items)
        return f"Prior({', '.join([f'"{self.name}"', *params])})"

    def __reduce__(self):
        return _rebuild, (self.name, self.items)

    @classmethod
    def parse(cls, text: str) -> Prior:
        """Read a prior such as ``"HalfNormal(sigma=2)"``; the text is data and nothing in it is run.

        Examples
        --------
        >>> Prior.parse("Normal(mu=-1, sigma=2.5)").params
        {'mu': -1.0, 'sigma': 2.5}
        """
        name, params = _parse(text)
        return cls(name, **params)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, in PyMC's order (a new dictionary)."""
        return dict(self.items)

    @cached_property
    def _law(self) -> Law:
        try:
            return FAMILIES[self.name].law(**self.params)
        except (OverflowError, ZeroDivisionError, ValueError) as error:
            raise PriorError(f"The density of {self} cannot be computed: its parameters are too extreme.") from error

    @property
    def lower(self) -> float:
        """Lower end of the support."""
        return self._law.lower

    @property
    def upper(self) -> float:
        """Upper end of the support."""
        return self._law.upper

    @property
    def support(self) -> str | tuple[str, float, float]:
        """Where the density lives: "real", "positive", ("interval", lower, upper); "correlation" for LKJ, or "simplex".

        Examples
        --------
        >>> Prior("Uniform", lower=0, upper=9).support
        ('interval', 0.0, 9.0)
        """
        if self.name in _WHOLE:
            return {"LKJ": "correlation", "Dirichlet": "simplex"}[self.name]
        ends = self.lower, self.upper
        return {(-inf, inf): "real", (0.0, inf): "positive"}.get(ends, ("interval", *ends))

    def logpdf(self, x: Any) -> Any:
        """Log density at x, elementwise; -inf outside the support.

        For LKJ x is matrices (..., r, r), for Dirichlet shares (..., r).

        Examples
        --------
        >>> Prior("Exponential", lam=2).logpdf([-1.0, 0.0, 1.0]).round(4).tolist()
        [-inf, 0.6931, -1.3069]
        """
        law = self._law
        if self.name in _WHOLE:
            return law.logpdf(np.asarray(x, dtype=np.float64))
        x = np.asarray(x, dtype=np.float64) + 0.0  # -0.0 becomes 0.0
        outside = (x < law.lower) | (x > law.upper) | np.isinf(x)
        with np.errstate(divide="ignore", over="ignore", under="ignore"):
            if not outside.any():
                return np.asarray(law.logpdf(x))[()]
            inside = ~outside
            value = np.full(x.shape, -inf)
            value[inside] = law.logpdf(x[inside])
        return value[()]

    def quantile(self, q: Any) -> Any:
        """Value below which the probability is q, elementwise.

        Examples
        --------
        >>> float(round(Prior("PenalizedComplexity", upper=10, alpha=0.05).quantile(0.95), 6))
        10.0
        """
        if self._law.quantile is None:
            reason = (
                f"it is a distribution of {_WHOLE.get(self.name)}" if self.name in _WHOLE else "its mass is infinite"
            )
            raise PriorError(f"{self} has no quantiles and cannot be drawn from: {reason}. Use a proper prior.")
        with np.errstate(divide="ignore", over="ignore", under="ignore"):
            return np.asarray(self._law.quantile(np.asarray(q, dtype=np.float64)))[()]

    def rvs(self, rng: np.random.Generator, size: int | Sequence[int] = (), *, r: int = 2) -> Any:
        """Draw values of shape ``size``; for LKJ matrices, ``size + (r, r)``, for Dirichlet shares, ``size + (r,)``.

        Examples
        --------
        >>> Prior("HalfNormal", sigma=2).rvs(np.random.default_rng(1), size=(4, 3)).shape
        (4, 3)
        """
        shape = (size,) if isinstance(size, int | np.integer) else tuple(size)
        if self.name == "LKJ":
            return lkj_draw(rng, self.params["eta"], r, shape)
        if self.name == "Dirichlet":
            a = self.params["a"]
            return rng.dirichlet(a if isinstance(a, tuple) else (a,) * r, shape)
        return self.quantile((rng.integers(0, 2**52, size=shape) + 0.5) / 2**52)  # never 0 or 1

    def _moments(self) -> list[float | None]:
        try:
            return [float(value) if isfinite(value) else None for value in self._law.moments()]
        except (OverflowError, ZeroDivisionError, ValueError):
            return [None, None]

    @property
    def mean(self) -> float | None:
        """Mean, or None where there is none or it is infinite."""
        return self._moments()[0]

    @property
    def sd(self) -> float | None:
        """Standard deviation, or None where there is none or it is infinite."""
        return self._moments()[1]

    @property
    def median(self) -> float:
        """Median."""
        return float(self.quantile(0.5))

    @property
    def is_flat(self) -> bool:
        """Whether the density is constant on its support and improper."""
        return self.name in ("Flat", "HalfFlat")

    @property
    def is_gaussian(self) -> bool:
        """Whether it is Normal, or Flat: a Normal of infinite standard deviation."""
        return self.name in ("Normal", "Flat")

    @property
    def gaussian(self) -> tuple[float, float] | None:
        """Mean and precision 1/sd^2 of a Gaussian prior, (0, 0) for Flat; None for any other.

        Examples
        --------
        >>> Prior("Normal", mu=1, sigma=2).gaussian, Prior("Flat").gaussian
        ((1.0, 0.25), (0.0, 0.0))
        """
        if not self.is_gaussian:
            return None
        return (0.0, 0.0) if self.is_flat else (self.params["mu"], self.params["sigma"] ** -2)

    @property
    def on_variance(self) -> bool:
        """Whether `pymc` names the law of the *variance*, the parameter being its square root."""
        return FAMILIES[self.name].on_variance

    def pymc(self) -> tuple[str, dict[str, Any]]:
        """Name of the PyMC class and its keyword arguments, as float64: PyTensor makes a float32 of 2.0.

        With `on_variance` the parameter is the square root of that variable, in PyMC ``pm.CustomDist(name,
        *params, dist=lambda *p: pt.sqrt(pm.InverseGamma.dist(*p[:-1], size=p[-1])))``.
        LKJ needs n besides, and in PyMC is the law of the correlations' Cholesky factor.

        Examples
        --------
        >>> Prior("PenalizedComplexity", upper=1, alpha=0.5).pymc()
        ('Exponential', {'lam': np.float64(0.693...)})
        """
        to_pymc = FAMILIES[self.name].pymc
        name, params = to_pymc(**self.params) if to_pymc else (self.name, self.params)
        return name, {key: np.asarray(value, dtype=np.float64)[()] for key, value in params.items()}


def one_family(priors: Sequence[Prior]) -> bool:
    """Whether PyMC can take the priors of several parameters as one variable: its family and parameters' names agree.

    Examples
    --------
    >>> one_family([Prior("Normal", mu=0, sigma=1), Prior("Normal", mu=5, sigma=2)]), one_family([])
    (True, False)
    """
    families = {(prior.pymc()[0], tuple(prior.pymc()[1]), prior.on_variance) for prior in priors}
    return len(families) == 1 and not priors[0].on_variance


def as_prior(given: Any) -> Prior:
    """Take a Prior, its text, or a PreliZ distribution, and return a Prior.

    Examples
    --------
    >>> as_prior("HalfNormal(sigma=2)")
    Prior("HalfNormal", sigma=2)
    """
    if isinstance(given, Prior):
        return given
    if isinstance(given, str):
        return Prior.parse(given)
    if hasattr(given, "param_names"):  # PreliZ, by its looks
        return _from_preliz(given)
    raise PriorError(
        f'A prior was expected, but {given!r} came. Write Prior("HalfNormal", sigma=2), '
        'the text "HalfNormal(sigma=2)", or give a PreliZ distribution.'
    )


def _from_preliz(given: Any) -> Prior:
    name = type(given).__name__
    family = _family(name)
    if name == "Dirichlet":
        return Prior(name, a=list(given.alpha))
    for form in (tuple(given.param_names), *family.forms):
        values = {key: float(value) for key in form if (value := getattr(given, key, None)) is not None}
        if form in family.forms and len(values) == len(form):
            return Prior(name, **values)
    raise PriorError(
        f"The PreliZ distribution {name} has no values for its parameters ({', '.join(given.param_names)}). "
        f"Give them, for example {_example(name)}."
    )


def _rebuild(name: str, items: tuple[tuple[str, Any], ...]) -> Prior:
    return Prior(name, **dict(items))


def _number(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_number, value))}]"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _example(name: str, form: int = 0) -> str:
    values = {"lower": "0", "upper": "10" if name != "PenalizedComplexity" else "1", "mu": "0", "nu": "3"}
    if name == "PenalizedComplexity":
        values["alpha"] = "0.05"
    return f"{name}({', '.join(f'{key}={values.get(key, "1")}' for key in FAMILIES[name].forms[form])})"


def _call(name: str) -> str:
    """The first example as Python that makes it."""
    return _example(name).replace(f"{name}(", f'Prior("{name}", ', 1)


def _family(name: Any) -> DensityFamily:
    if isinstance(name, str) and name in FAMILIES:
        return FAMILIES[name]
    meant = _MEANT_NAMES.get(str(name).casefold())
    hint = f" Did you mean {meant!r}?" if meant else did_you_mean(str(name), FAMILIES)
    raise PriorError(f"{name!r} is not a prior that bayeslmm knows.{hint} Known are {', '.join(FAMILIES)}.")


def _checked(name: str, family: DensityFamily, params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return the parameters in order, defaults filled in, or say what is wrong with them."""
    takes = " or ".join(_example(name, k) for k in range(len(family.forms)))
    known = dict.fromkeys(key for form in family.forms for key in form)
    for key in params:
        if key not in known:
            meant = _MEANT_PARAMETERS.get(key.casefold())
            hint = f" Did you mean {meant!r}?" if meant in known else did_you_mean(key, known)
            raise PriorError(f"{name} has no parameter {key!r}.{hint} Write for example {takes}.")
    form = next((form for form in family.forms if set(params) <= set(form)), None)
    if form is None:
        raise PriorError(f"{name} does not take {' with '.join(params)}. Write for example {takes}.")
    values: dict[str, Any] = {}
    for key in form:
        if key in params:
            value = params[key]
            several = key in family.vectors and isinstance(value, list | tuple | np.ndarray) and len(value) > 0
            numbers = tuple(_as_float(key, name, one, takes) for one in (value if several else [value]))
            values[key] = numbers if several else numbers[0]
        elif key in family.defaults:
            values[key] = family.defaults[key]
        elif key not in family.optional:
            raise PriorError(f"{name} needs {key}. Write for example {takes}.")
    for key in family.optional:
        if values.get(key) == {"lower": -inf, "upper": inf}[key]:
            del values[key]  # no bound on that side
    for key, value in ((k, one) for k, v in values.items() for one in (v if isinstance(v, tuple) else (v,))):
        if not isfinite(value):
            raise PriorError(f"{key} of {name} must be finite, but {value} came. Write for example {takes}.")
        if key not in family.real and value <= 0:
            raise PriorError(f"{key} of {name} must be positive, but {_number(value)} came. Write for example {takes}.")
    if "lower" in values and "upper" in values and values["lower"] >= values["upper"]:
        came = f"lower={_number(values['lower'])}, upper={_number(values['upper'])}"
        raise PriorError(f"lower must be less than upper in {name}, but {came} came. Write for example {takes}.")
    if name == "PenalizedComplexity" and values["alpha"] >= 1:
        raise PriorError(
            "alpha of PenalizedComplexity is the probability that the SD exceeds upper, less than 1, "
            f"but {_number(values['alpha'])} came. Write for example {takes}."
        )
    return tuple(values.items())


def _as_float(key: str, name: str, value: Any, takes: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise PriorError(f"{key} of {name} must be a number, but {value!r} came. Write for example {takes}.")
    try:
        return float(value)
    except OverflowError:
        return inf


def _parse(text: Any) -> tuple[str, dict[str, Any]]:
    expected = 'Expected is one name with its parameters by keyword, such as "HalfNormal(sigma=2)".'
    shown = repr(text if not isinstance(text, str) or len(text) <= 80 else text[:77] + "...")
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise PriorError(f"{shown} cannot be read as a prior. {expected}")
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise PriorError(f"{shown} cannot be read as a prior. {expected}") from None
    if isinstance(call, ast.Name):
        raise PriorError(f"{shown} lacks its parentheses. Write for example {_example_of(call.id)}.")
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise PriorError(f"{shown} cannot be read as a prior. {expected}")
    name = call.func.id
    if call.args:
        raise PriorError(f"{shown}: parameters are given by keyword. Write for example {_example_of(name)}.")
    params: dict[str, Any] = {}
    for keyword in call.keywords:
        node = keyword.value
        several = isinstance(node, ast.List)
        numbers = [_literal(one) for one in (node.elts if isinstance(node, ast.List) else [node])]
        if keyword.arg is None or None in numbers:
            came = ast.get_source_segment(text.strip(), keyword) or "?"  # unparsing recurses as deep as the text goes
            came = came if len(came) <= 80 else came[:77] + "..."
            raise PriorError(f"{shown}: parameters are plain numbers, but {came!r} came. {expected}")
        if keyword.arg in params:
            raise PriorError(f"{shown} gives {keyword.arg} twice. Give it once.")
        params[keyword.arg] = numbers if several else numbers[0]
    return name, params


def _literal(node: ast.expr) -> float | None:
    """Return the number that stands there, or None."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    value = node.value if isinstance(node, ast.Constant) else None
    return sign * value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _example_of(name: str) -> str:
    _family(name)
    return _example(name)
