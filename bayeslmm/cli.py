"""The command line: compare, check, fit, schema.

Nothing heavy is imported before the arguments are understood, and PyMC only where a posterior is sampled.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

import bayeslmm
from bayeslmm.errors import BayesLMMError, DataError, DescriptionError, SamplingError, visible
from bayeslmm.support.files import write_whole

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.likelihood.fit import LikelihoodFit
    from bayeslmm.lmm import LMM

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
LIKELIHOODS = ("ml", "reml")

Variant = Literal["ml", "reml", "joint", "marginal"]
Flag = Parameter(negative="", show_default=False)
Positive = Parameter(validator=Number(gte=1))
Seed = Parameter(validator=Number(gte=0))


class UsageError(BayesLMMError):
    """The arguments do not make a command."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the posteriors are sampled.

    Parameters
    ----------
    draws
        Draws kept per chain.
    tune
        Draws before them, for tuning.
    chains
        Number of chains.
    seed
        Seed of the random numbers, for results that can be repeated.
    """

    draws: Annotated[int, Positive] = 1000
    tune: Annotated[int, Positive] = 1000
    chains: Annotated[int, Positive] = 4
    seed: Annotated[int | None, Seed] = None

    def settings(self, quiet: bool) -> dict[str, Any]:
        """Arguments of `LMM.sample` and `compare`."""
        return {
            "draws": self.draws,
            "tune": self.tune,
            "chains": self.chains,
            "random_seed": self.seed,
            "progress": not quiet,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """Another way to name the model, without a description file.

    Parameters
    ----------
    formula
        The model in lme4's notation, instead of a description file: "y ~ 1 + x + (1 | group)".
    data
        The table for --formula, a .csv or .csv.gz file.
    missing
        With --formula: what to do with rows that have missing values.
    """

    formula: str | None = None
    data: Path | None = None
    missing: Literal["error", "drop"] = "error"


DEFAULT_SAMPLING = Sampling()
DEFAULT_SOURCE = Source()


def build_parser() -> App:
    """Return the parser: the subcommands, their options and their help."""
    app = App(
        name="bayeslmm",
        help="Multilevel linear mixed models: the joint model, the exact marginal, ML and REML, compared.",
        version=lambda: f"bayeslmm {bayeslmm.__version__}",
        help_epilogue="Exit codes: 0 done, 1 the input cannot be used, 2 wrong usage, 130 interrupted.",
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for command in (compare, check, fit, schema):
        app.command(command)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every expected error is one message on stderr.

    Examples
    --------
    >>> main(["--version"])
    bayeslmm 0.1.0
    0
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    with _interrupts() as interrupts:
        try:
            build_parser()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
            return OK
        except (CycloptsError, UsageError) as error:
            return _say(f"{_plain(error)} See bayeslmm --help.", USAGE)
        except KeyboardInterrupt:
            return _say("Interrupted.", INTERRUPTED)
        except BrokenPipeError:  # the reader of our output has gone, as in `| head`
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            return FAILED
        except BayesLMMError as error:
            return _say(str(error), INTERRUPTED if interrupts else FAILED)
        except MemoryError:
            return _say("Memory ran out. Use fewer rows or draws, or raise the limit (ulimit -v).", FAILED)
        except OSError as error:
            return _say(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Note every Ctrl-C, as a sampler may catch it and come back with what it has."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def run() -> None:
    """Console entry: run and exit."""
    code = main()
    if code == INTERRUPTED:  # a sampler's threads may still run, and must not meet an interpreter that is taken down
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


# subcommands ------------------------------------------------------------------------------------------


def compare(
    file: Path | None = None,
    /,
    *,
    out: Path | None = None,
    random_effects: Annotated[bool, Flag] = False,
    quiet: Annotated[bool, Flag] = False,
    sampling: Sampling = DEFAULT_SAMPLING,
    source: Source = DEFAULT_SOURCE,
) -> None:
    """Fit ML, REML, the joint and the marginal model; print their comparison and write an HTML report.

    Parameters
    ----------
    file
        Description file (TOML), or the name of an example, such as heights.
    out
        The report; <stem of the file>-report.html in the current folder if not given.
    random_effects
        The table has a row for each random effect, too.
    quiet
        Only the comparison: no description, no progress.
    """
    from bayeslmm.comparison.comparison import compare as compare_variants

    model = _load(file, source)
    out = _writable(out or Path(f"{model.stem}-report.html"), {".html", ".htm"}, "The report is a web page")
    if not quiet:  # the comparison itself says the formula and the hierarchy in words
        _print("\n".join([*_title(model), *_notes(model)]), end="\n\n", flush=True)
    result = compare_variants(model.lmm, random_effects=random_effects, **sampling.settings(quiet))
    result.report(out, **model.about)  # before a reader of the output can break the pipe
    _print(result)
    _print(f"\nReport: {out}")


def check(
    file: Path | None = None,
    /,
    *,
    quiet: Annotated[bool, Flag] = False,
    source: Source = DEFAULT_SOURCE,
) -> None:
    """Read the description and its data, and say what the model is: hierarchy, priors, cost. Fits nothing.

    Parameters
    ----------
    file
        Description file (TOML), or the name of an example, such as heights.
    quiet
        Print nothing when all is well.
    """
    model = _load(file, source)
    explained = model.lmm.explain()
    if quiet:
        return
    _print(_description(model))
    _print(f"\nPriors (in units of {model.lmm.hierarchy.response}):\n{_priors(model.lmm)}")
    _print(f"\n{explained}")


def fit(
    file: Path | None = None,
    /,
    *,
    variant: Variant,
    out: Path | None = None,
    random_effects: Annotated[bool, Flag] = False,
    quiet: Annotated[bool, Flag] = False,
    sampling: Sampling = DEFAULT_SAMPLING,
    source: Source = DEFAULT_SOURCE,
) -> None:
    """Fit one variant, print it and save it: ML and REML as JSON, posteriors as NetCDF.

    Parameters
    ----------
    file
        Description file (TOML), or the name of an example, such as heights.
    variant
        What to fit.
    out
        Where to save; <stem of the file>-<variant>.json or .nc in the current folder if not given.
    random_effects
        The printed table has a row for each random effect, too.
    quiet
        Only the result: no description, no progress.
    """
    model = _load(file, source)
    point = variant in LIKELIHOODS
    suffix, kind = (".json", "ML and REML are saved as JSON") if point else (".nc", "Draws are saved as NetCDF")
    out = _writable(out or Path(f"{model.stem}-{variant}{suffix}"), {suffix}, kind)
    if not quiet:
        _print(_description(model), end="\n\n", flush=True)
    if point:
        found = model.lmm.ml() if variant == "ml" else model.lmm.reml()
        print(found)
        if random_effects:
            for name, frame in found.ranef.items():
                _print(f"\nConditional modes of {name} and their SDs:\n{frame.to_string()}")
        write_whole(out, lambda part: part.write_text(_json(found), "utf-8"))
    else:
        tree = _sample(model.lmm, variant, out, sampling.settings(quiet))
        _print(_posterior(model.lmm, variant, tree, random_effects))
        write_whole(out, tree.to_netcdf)
    _print(f"\nSaved: {out}")


def schema() -> None:
    """Print the JSON Schema of the description file."""
    import json

    from bayeslmm.description.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


# reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model read from the command line's arguments, with its story."""

    lmm: LMM
    stem: str
    about: dict[str, str]


def _load(file: Path | None, source: Source) -> Model:
    """Read the model from a description file, or from --formula and --data."""
    from bayeslmm.description.hierarchy import Hierarchy
    from bayeslmm.description.model_file import ModelFile

    if (file is None) == (source.formula is None):
        said = "both a description file and --formula were" if file else "no model was"
        raise UsageError(
            f"{said[0].upper()}{said[1:]} given; write FILE.toml, the name of an example (heights), or "
            '--formula "y ~ 1 + (1 | group)" --data FILE.csv.'
        )
    if file is not None:
        if source.data is not None:
            raise UsageError(f"--data goes with --formula; {file} names its own: data = {str(source.data)!r}.")
        path = _description_file(file)
        described = ModelFile.read(path)
        stem = file.stem
    else:
        if source.data is None:
            raise UsageError("--formula needs the table as well: --data FILE.csv.")
        if not source.data.is_file():
            raise DataError(f"--data: there is no file {source.data}.")
        hierarchy = Hierarchy.from_formula(source.formula or "")
        described = ModelFile(path=Path("--data"), hierarchy=hierarchy, data=source.data, missing=source.missing)
        stem = source.data.name.split(".")[0]
    from bayeslmm.lmm import LMM

    frame = described.load_data()
    try:
        lmm = LMM(described.hierarchy, frame, priors=described.priors, missing=described.missing)
    except BayesLMMError as error:
        raise type(error)(f"{file or source.data}: {error}") from error
    about = {"title": described.title, "source": described.source, "notes": described.notes}
    if file is not None:
        read = "LMM.from_toml" if path == file else "example"
        about["load"] = f"lmm = blm.{read}({str(file)!r})"
    return Model(lmm=lmm, stem=stem, about={key: value for key, value in about.items() if value})


def _description_file(file: Path) -> Path:
    """The file itself, or that of the example whose name it is; a file in the current folder comes first."""
    from bayeslmm.gallery import example_path

    bare = len(file.parts) == 1 and not file.suffix
    if not bare or (file.exists() and not file.is_dir()):
        return file
    return example_path(file.name, "there is no description file {name}, and no example of that name.")


def _writable(out: Path, suffixes: set[str], kind: str) -> Path:
    """Make sure, before the long work, that its result can be saved."""
    import tempfile

    if out.suffix.lower() not in suffixes:
        raise UsageError(f"--out is {out}. {kind}: write --out {out.with_suffix(min(suffixes, key=len))}.")
    if out.is_dir():
        raise DescriptionError(f"--out is the folder {out}; a file was expected, such as {out / 'result'}.")
    if not out.parent.is_dir():
        raise DescriptionError(f"--out is {out}, but there is no folder {out.parent}. Make it first.")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
        if out.exists() and not os.access(out, os.W_OK):
            raise PermissionError
    except OSError as error:
        reason = error.strerror or "it is read-only"
        raise DescriptionError(f"--out is {out}, which cannot be written: {reason}.") from None
    return out


# writing ----------------------------------------------------------------------------------------------


def _description(model: Model) -> str:
    """Title, formula, the hierarchy in words, and what deserves a second look."""
    words = [model.lmm.hierarchy.formula, "", model.lmm.describe()]
    return "\n".join([*_title(model), *words, *_notes(model)])


def _title(model: Model) -> list[str]:
    return [model.about["title"]] if "title" in model.about else []


def _notes(model: Model) -> list[str]:
    return [f"Note: {hint}" for hint in model.lmm.design.hints]


def _priors(lmm: LMM) -> str:
    table = lmm.priors.table()
    widths = [max(map(len, map(str, [name, *table[name]]))) for name in table.columns]
    lines = [table.columns, *table.itertuples(index=False)]
    cells = [[str(x).ljust(w) for x, w in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def _sample(lmm: LMM, variant: str, out: Path, settings: dict[str, Any]) -> xr.DataTree:
    """Sample; of an interrupted run the clean part is saved beside `out`."""
    try:
        return lmm.sample(variant, **settings)
    except SamplingError as error:
        if error.clean is not None:
            partial = out.with_name(f"{out.stem}-partial{out.suffix}")
            write_whole(partial, error.clean.to_netcdf)
            _print(f"The clean part of the run is saved: {partial}", file=sys.stderr)
        raise


def _posterior(lmm: LMM, variant: str, tree: xr.DataTree, random_effects: bool) -> str:
    """The posterior's part of the comparison table."""
    from bayeslmm.comparison.comparison import compare_posteriors

    table = compare_posteriors(lmm, {variant: tree}, random_effects=random_effects).shown[variant]
    note = tree.attrs.get("note")
    return f"Posterior of the {variant} model\n{table.to_string()}" + (f"\n\n{note}" if note else "")


def _json(fit: LikelihoodFit) -> str:
    import json

    return json.dumps(fit_record(fit), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def fit_record(fit: LikelihoodFit) -> dict[str, Any]:
    """A fit as plain numbers and texts, for JSON; what is not a number there is null.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> record = fit_record(blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}).ml())
    >>> record["method"], record["groups"], round(record["fixef"]["Intercept"], 3)
    ('ML', {'g': 3}, 4.833)
    """
    status = fit.status
    record = {
        "bayeslmm": bayeslmm.__version__,
        "formula": fit.design.hierarchy.formula,
        "method": fit.method,
        "n": fit.design.n,
        "groups": {level.tag: level.m for level in fit.design.levels},
        "loglik": fit.loglik,
        "aic": fit.aic,
        "bic": fit.bic,
        "fixef": fit.fixef.to_dict(),
        "se": fit.fixef_se.to_dict(),
        "sigma": fit.sigma,
        "theta": fit.theta.to_dict(),
        "residual": {p.label: float(x) for p, x in zip(fit.design.residual.parameters, fit.psi, strict=True)},
        "varcorr": fit.varcorr.to_dict("records"),
        "ranef": {name: frame.to_dict("index") for name, frame in fit.ranef.items()},
        "singular": fit.singular,
        "status": {"name": status.name, "advice": status.advice},
    }
    return _jsonable(record)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None
    return value


def _plain(error: Exception) -> str:
    """A usage error in one line."""
    return " ".join(str(error).split())


def _say(message: str, code: int) -> int:
    _print(f"bayeslmm: {message}", file=sys.stderr)
    return code


def _print(text: object, **options: Any) -> None:
    """Print what may hold labels from a file, without what a terminal would obey."""
    print(visible(str(text)), **options)
