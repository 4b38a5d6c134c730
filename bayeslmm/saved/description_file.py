"""The description and the given priors as TOML, known matrices in files beside it; read from bytes, never by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.data.matrix_file import read_npz, write_npz
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.description.levels import Level, Residual
from bayeslmm.description.outcome_keys import OutcomeKeys
from bayeslmm.description.schema import check_shape
from bayeslmm.description.toml_text import key_lines, load, toml_key, toml_value
from bayeslmm.distributions.prior import Prior
from bayeslmm.errors import DescriptionError
from bayeslmm.families.registry import read_family

NAME = "model.toml"
GivenPriors = Mapping[str, Prior | Mapping[str, Prior]]


def write_description(
    hierarchy: Hierarchy, priors: GivenPriors, outcome: OutcomeKeys | None = None
) -> dict[str, bytes]:
    """Content of model.toml and of the files of known matrices, by name.

    Examples
    --------
    >>> hierarchy = Hierarchy.from_formula("y ~ (1 | g)")
    >>> files = write_description(hierarchy, {"sigma": Prior("HalfNormal", sigma=2)})
    >>> read_description(Path("model.toml"), files) == (hierarchy, None, {"sigma": Prior("HalfNormal", sigma=2)})
    True
    """
    files: dict[str, bytes] = {}

    def filed(part: Any, name: str) -> Any:
        """The part with its known matrix in a file."""
        kind = "precision" if getattr(part, "precision", None) is not None else "covariance"
        matrix = getattr(part, kind)
        if matrix is None:
            return part
        source = f"{name}_{kind}.npz"
        files[source] = write_npz(matrix.labels, matrix.matrix)
        return replace(part, **{kind: replace(matrix, source=source)})

    levels = tuple(filed(level, name) for name, level in zip(hierarchy.names, hierarchy.levels, strict=True))
    written = replace(hierarchy, levels=levels, residual=filed(hierarchy.residual, "residual"))
    lines = ["", "[priors]", *(f"{toml_key(key)} = {toml_value(_texts(prior))}" for key, prior in priors.items()), ""]
    text = (outcome.to_toml() if outcome else "") + written.to_toml() + ("\n".join(lines) if priors else "")
    return {NAME: text.encode("utf-8")} | files


def read_description(path: Path, files: Mapping[str, bytes]) -> tuple[Hierarchy, OutcomeKeys | None, dict[str, Any]]:
    """The hierarchy, the family with its columns, the given priors; `path` is where model.toml stands, for errors."""
    text = files[path.name].decode("utf-8")
    content = load(path, text)
    check_shape(path, key_lines(text), content)
    priors = content.pop("priors", {})
    parts = [*(dict(level) for level in content.get("levels", [])), dict(content.get("residual", {}))]
    for part in parts:
        for kind in {"covariance", "precision"} & set(part):
            part[kind] = _matrix(path, files, part[kind], precision=kind == "precision")
    *levels, residual = parts
    given = {key: content[key] for key in ("response", "fixed", "offset") if key in content}
    hierarchy = Hierarchy(
        **given, levels=tuple(map(Level.from_dict, levels)), residual=Residual.from_dict(residual)
    )  # fmt: skip
    outcome = None
    if "family" in content:
        columns = {key: content[key] for key in ("failures", "trials", "weights") if key in content}
        outcome = OutcomeKeys(family=read_family(content["family"]), **columns)
    return hierarchy, outcome, {key: _priors(given) for key, given in priors.items()}


def _matrix(path: Path, files: Mapping[str, bytes], name: Any, precision: bool) -> KnownMatrix:
    if not isinstance(name, str) or name not in files:
        raise DescriptionError(f"{path}: names the matrix {name!r}, which is no file of this saved model")
    labels, matrix = read_npz(path.with_name(name), files[name])
    return KnownMatrix(labels=tuple(labels), matrix=matrix, precision=precision)


def _texts(given: Prior | Mapping[str, Prior]) -> str | dict[str, str]:
    return {key: str(prior) for key, prior in given.items()} if isinstance(given, Mapping) else str(given)


def _priors(given: str | Mapping[str, str]) -> Prior | dict[str, Prior]:
    return Prior.parse(given) if isinstance(given, str) else {key: Prior.parse(one) for key, one in given.items()}
