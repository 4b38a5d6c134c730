"""The reference: what every public object's docstring says. That its links hold, `python docs/build.py` finds out."""

import inspect
import re

import pytest

import bayeslmm as blm
from bayeslmm.families.family import Family
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.theory import density

RESULTS = {"Saved", "Model", "MixedModelEquations", "SameMarginal"}  # their example is that of what makes them
CLASSES = [one for name in blm.__all__ if inspect.isclass(one := getattr(blm, name)) and not issubclass(one, Exception)]
FUNCTIONS = [one for name in blm.__all__ if inspect.isfunction(one := getattr(blm, name))]
FUNCTIONS += [density.joint_logpdf, density.marginal_logpdf, density.conditional_moments]
METHODS = [
    member
    for owner in [*CLASSES, LikelihoodFit, GLMMFit]
    if not issubclass(owner, Family)  # what the code asks of a family; its class has the example
    for name, member in inspect.getmembers(owner)
    if not name.startswith("_") and (inspect.isfunction(member) or inspect.ismethod(member))
]
PROPERTIES = [
    member
    for owner in [*CLASSES, LikelihoodFit, GLMMFit]
    for name, member in vars(owner).items()
    if not name.startswith("_") and (isinstance(member, property) or "cached" in type(member).__name__)
]


def name(public) -> str:
    return getattr(public, "__qualname__", "property")


@pytest.mark.parametrize("public", [*CLASSES, *FUNCTIONS, *METHODS, *PROPERTIES], ids=name)
def test_its_first_line_is_a_sentence(public):
    first = re.split(r"\n\s*\n", inspect.getdoc(public) or "")[0]
    assert first.endswith((".", ":"))


@pytest.mark.parametrize("public", [*(c for c in CLASSES if c.__name__ not in RESULTS), *FUNCTIONS, *METHODS], ids=name)
def test_it_has_an_example_that_runs(public):
    assert ">>>" in inspect.getdoc(public)


@pytest.mark.parametrize("public", FUNCTIONS, ids=name)
def test_it_says_what_comes_back(public):
    assert "Returns\n" in inspect.getdoc(public)
