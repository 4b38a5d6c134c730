"""Which numbers in the prose of a notebook a random seed decides.

Prose is read with every run's outputs, so a number in it has to be one that every run prints. The code says which
outputs those are: a statement that draws at random, or reads a name that such a statement has bound, is random, and so
is what it binds and prints. A number of the prose has to stand in the code, or in an output of a cell without random
statements (rounded, if the prose has fewer decimals).

The rule errs towards refusing, with three limits: whole numbers below ten are taken for words ("two schools"), those
of this century and the last for years, and a number that a seed decides passes if a seed-free cell happens to print the
same digits. A paragraph of sources is not read.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

RANDOM = {"default_rng", "sample", "compare", "prior_predictive", "implied_priors", "sensitivity", "rvs", "random"}
RANDOM |= {"compare_models", "marginal_likelihood", "plot_checks", "plot_prior_predictive"}
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?")


def seed_decided_numbers(notebook, text_of: Callable, conventions: frozenset[str] = frozenset()) -> list[str]:
    """Return the numbers of prose and comments, each with its sentence, that no seed-free cell shows.

    Parameters
    ----------
    notebook
        With outputs.
    text_of
        What an output says, as text.
    conventions
        Numbers that are known without being computed, such as the 95 of a 95 % interval.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    known = {text for cell in code for text in _constants(cell.source)}
    random: set[str] = set()
    modules = {name for cell in code for statement in ast.parse(cell.source).body for name in _imported(statement)}
    for cell in code:
        is_random = _is_random(cell.source, random)
        random -= modules  # np.random.seed(...) changes no other thing in np
        if not is_random:
            known |= {text for output in cell.outputs for text in NUMBER.findall(text_of(output))}
    values = [float(text.replace(",", "")) for text in known]

    def is_known(text: str) -> bool:
        places = len(text.partition(".")[2])
        return text in conventions or any(f"{value:.{places}f}" == text.replace(",", "") for value in values)

    return [
        f"{number} in: {line.strip()}"
        for cell in notebook.cells
        for line in _prose(cell)
        for number in NUMBER.findall(_without_code(line))
        if ("." in number or len(number) > 1) and not is_known(number)
    ]


def _prose(cell) -> list[str]:
    if cell.cell_type == "markdown":
        return [line for line in cell.source.splitlines() if not line.startswith("**Sources.**")]
    tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def _without_code(line: str) -> str:
    """Leave out code, addresses, numbers of notebooks and years, and the exponents and indices of formulas."""
    line = re.sub(r"`[^`]*`|\[\d+\]\([^)]*\)|\]\([^)]*\)|\b(19|20)\d\d\b", " ", line)
    return re.sub(r"[\^_](\{[^}]*\}|\w)", " ", line)


def _constants(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield f"{float(node.value):.10f}"


def _is_random(source: str, random: set[str]) -> bool:
    """Whether a cell has a random statement; `random`, the names bound by such so far, is brought up to date."""
    found = False
    for statement in ast.parse(source).body:
        if _read(statement) & random or _called(statement) & RANDOM:
            random |= _bound(statement)
            found = True
        else:
            random -= _replaced(statement)
    return found


def _read(statement: ast.stmt) -> set[str]:
    """Return the names that a statement reads; a function's own parameters are not read."""
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    if isinstance(statement, ast.FunctionDef):
        names -= {argument.arg for argument in statement.args.args}
    return names


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds or changes: assigned, in part or whole, or told to do something."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    out: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            out |= _root(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            out |= _root(node.value.func) if isinstance(node.value.func, ast.Attribute) else set()  # rows.append(...)
    return out


def _replaced(statement: ast.stmt) -> set[str]:
    """Return the names that a statement gives a wholly new value."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    elements = [e for target in targets for e in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {element.id for element in elements if isinstance(element, ast.Name)}


def _imported(statement: ast.stmt) -> set[str]:
    names = statement.names if isinstance(statement, ast.Import | ast.ImportFrom) else []
    return {(name.asname or name.name).partition(".")[0] for name in names}


def _root(node: ast.expr) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _called(statement: ast.stmt) -> set[str]:
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}
