"""The commands that read a description and its data: compare, check, fit; and the schema of descriptions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from bayeslmm.cli.arguments import (
    DEFAULT_INTEGRAL,
    DEFAULT_SAMPLING,
    DEFAULT_SOURCE,
    LIKELIHOODS,
    Flag,
    Integral,
    Sampling,
    Source,
    UsageError,
    Variant,
)
from bayeslmm.cli.interrupts import deferred_interrupt
from bayeslmm.cli.models import Model, load_model
from bayeslmm.cli.printing import description, notes, posterior, priors, show, title
from bayeslmm.cli.targets import writable_file, writable_folder
from bayeslmm.errors import DescriptionError, SamplingError

if TYPE_CHECKING:
    import xarray as xr


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

    A model with a family is fitted by ML with each approximation of its integral, and sampled; there is no report.

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

    model = load_model(file, source)
    if not model.gaussian and out is not None:
        raise DescriptionError(
            "--out: a comparison with a family has no report so far, and is printed. Leave --out out."
        )
    out = writable_file(out or Path(f"{model.stem}-report.html"), {".html", ".htm"}, "The report is a web page")
    if not quiet:  # the comparison itself says the formula and the hierarchy in words
        show("\n".join([*title(model), *notes(model)]), end="\n\n", flush=True)
    result = compare_variants(cast("Any", model.of), random_effects=random_effects, **sampling.settings(quiet))
    if not model.gaussian:
        show(result)
        return
    result.report(out, **model.about)  # before a reader of the output can break the pipe
    show(result)
    show(f"\nReport: {out}")


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
    model = load_model(file, source)
    stated, explained = priors(model), model.of.explain() if hasattr(model.of, "explain") else ""
    if quiet:
        return
    show(description(model))
    show(f"\n{stated}")
    if explained:
        show(f"\n{explained}")


def fit(
    file: Path | None = None,
    /,
    *,
    variant: Variant,
    out: Path | None = None,
    overwrite: Annotated[bool, Flag] = False,
    random_effects: Annotated[bool, Flag] = False,
    quiet: Annotated[bool, Flag] = False,
    sampling: Sampling = DEFAULT_SAMPLING,
    integral: Integral = DEFAULT_INTEGRAL,
    source: Source = DEFAULT_SOURCE,
) -> None:
    """Fit one variant, print it and save it with its model and data, for predict and for blm.load.

    Parameters
    ----------
    file
        Description file (TOML), or the name of an example, such as heights.
    variant
        What to fit.
    out
        The folder to save to; <stem of the file>-<variant> in the current folder if not given.
    overwrite
        Replace what is saved there.
    random_effects
        The printed table has a row for each random effect, too.
    quiet
        Only the result: no description, no progress.
    """
    model = load_model(file, source)
    given = integral.settings()
    if given and (model.gaussian or variant != "ml"):
        why = (
            "this outcome is Gaussian, and its integral exact" if model.gaussian else f"--variant {variant} takes none"
        )
        raise UsageError(f"--{next(iter(given))} goes with --variant ml of a model with a family; {why}.")
    run = model.verb(variant if variant in LIKELIHOODS else "sample")
    kept = model.of.design.has_rows
    if not kept and out is not None:
        raise DescriptionError(
            "--out: the rows of this model stay in their files, and a folder would hold them. Leave --out out: the fit "
            "is printed, and draws are written to a .nc file."
        )
    out = writable_folder(out or Path(f"{model.stem}-{variant}"), overwrite)
    if not quiet:
        show(description(model), end="\n\n", flush=True)
    result: Any = run(**given) if variant in LIKELIHOODS else _sample(model, variant, out, sampling.settings(quiet))
    with deferred_interrupt():  # before it is printed: what was found is not lost while it is summarised
        if kept:
            model.verb("save")(out, result, overwrite=overwrite)
        elif variant not in LIKELIHOODS:
            out = out.with_suffix(".nc")
            _draws_alone(result).to_netcdf(out, engine="h5netcdf")
    if variant in LIKELIHOODS:
        print(result)
        if random_effects:
            for name, frame in result.ranef.items():
                show(f"\nConditional modes of {name} and their SDs:\n{frame.to_string()}")
    else:
        show(posterior(model, variant, result, random_effects))
    if kept or variant not in LIKELIHOODS:
        show(f"\nSaved: {out}")
    else:
        show("\nNot saved: the rows of this model stay in their files.")


def _draws_alone(tree: xr.DataTree) -> xr.DataTree:
    """The draws, without what is computed from them when it is read."""
    import xarray as xr

    alone = xr.DataTree.from_dict({f"/{name}": tree[name].to_dataset() for name in ("posterior", "sample_stats")})
    alone.attrs |= tree.attrs
    return alone


def _sample(model: Model, variant: str, out: Path, settings: dict[str, Any]) -> xr.DataTree:
    """Sample; of an interrupted run the finished draws are saved beside `out`, marked as partial."""
    try:
        return model.of.sample(variant, **settings)
    except SamplingError as error:
        if error.clean is not None and model.of.design.has_rows:
            with deferred_interrupt():
                partial = model.verb("save")(out.with_name(f"{out.name}-partial"), error.clean, overwrite=True)
            show(f"The finished draws of the run are saved, marked as partial: {partial}", file=sys.stderr)
        raise


def schema() -> None:
    """Print the JSON Schema of the description file."""
    import json

    from bayeslmm.description.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
