"""What a comparison of approximations shows, in words: how far Laplace is off, and what hangs on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.support.text import fixed, number

if TYPE_CHECKING:
    from bayeslmm.comparison.link_comparison import LinkComparison
    from bayeslmm.integration.fit import GLMMFit

SMALL = 0.1  # standard errors below which no conclusion hangs on an estimate's error
FAR = 0.5  # standard errors from which a Newton step says where to, not how far
WALD = 1.959963984540054


def link_findings(comparison: LinkComparison) -> Iterator[str]:
    """Paragraphs, each said only where its facts hold."""
    laplace = comparison.fits["laplace"]
    yield from comparison.model.doubts
    yield f"The integral over the effects. {laplace.approximation_error.text}"
    if "quadrature" in comparison.fits:
        yield _maxima(laplace, comparison.fits["quadrature"])
    yield from _parameters(comparison)
    yield from _conclusions(comparison)
    yield from _posteriors(comparison)
    for name, fit in comparison.fits.items():
        own = [one for one in fit.doubts if one not in comparison.model.doubts]
        if own:
            yield f"ML by {name}: {' '.join(own)}"


def _maxima(laplace: GLMMFit, better: GLMMFit) -> str:
    gap = better.loglik - laplace.approximation_error.better
    return (
        f"The maxima. Laplace's own is {laplace.loglik:.4f}, the likelihood's is {better.loglik:.4f} "
        f"({better.nodes} nodes). Laplace's estimates lose {gap:.3g} of log-likelihood against the likelihood's own."
    )


def _parameters(comparison: LinkComparison) -> Iterator[str]:
    off = comparison.off
    known = off["se"].dropna()
    laplace = comparison.fits["laplace"]
    if known.empty:
        why = laplace.approximation_error.why_not or "their standard errors aren't known"
        yield f"The estimates. How far Laplace moves them is not known: {why}."
        return
    step = "quadrature" not in comparison.fits
    far = known[known.abs() - 2 * off.loc[known.index, "mc_error"] > SMALL]
    far = far.iloc[np.argsort(-far.abs().to_numpy(), kind="stable")]
    if far.empty:
        sure = "" if not step else ", as far as the draws can tell"
        yield (
            f"The estimates. Laplace moves none of them by more than {SMALL} of its standard error{sure}; the most by "
            f"{number(known.abs().max(), 2)} ({known.abs().idxmax()}). Nothing that is concluded from them hangs on it."
        )
        return
    estimates = laplace.estimates()
    named = []
    for name, se in list(far.items())[:3]:
        error = off.loc[name, "mc_error"]
        give = f" +- {number(2 * error, 1)}" if step else ""
        to = ""
        if not step:
            to = f", {number(float(comparison.fits['quadrature'].estimates()[name]))} by quadrature"
        named.append(
            f"{name} ({number(float(estimates[name]))} by Laplace{to}) is {number(abs(se), 2)}{give} standard errors "
            f"too {'high' if se > 0 else 'low'}"
        )
    said = f"The estimates. Laplace moves {len(far)} of {len(known)} by more than {SMALL} standard errors: "
    said += "; ".join(named) + "."
    if step:
        said += " This is a Newton step from Laplace's maximum along the likelihood's gradient"
        said += ": beyond half a standard error it says where to, not how far." if far.abs().max() > FAR else "."
    yield said


def _conclusions(comparison: LinkComparison) -> Iterator[str]:
    """Signs and intervals of coefficients that differ between approximations."""
    if "quadrature" not in comparison.fits:
        return
    one, two = comparison.fits["laplace"], comparison.fits["quadrature"]
    a, b = (pd.DataFrame({"x": fit.fixef, "se": fit.fixef_se}) for fit in (one, two))
    clear_a, clear_b = (f["x"].abs() > WALD * f["se"] for f in (a, b))
    turned = [str(n) for n in a.index[(np.sign(a["x"]) != np.sign(b["x"])) & (clear_a | clear_b)]]
    if turned:
        yield f"What hangs on it. The sign of {', '.join(turned)} is another one by quadrature than by Laplace."
    changed = [n for n in a.index[clear_a != clear_b] if str(n) not in turned]
    for name in changed:
        with_zero, without = ("Laplace", "quadrature") if clear_b[name] else ("quadrature", "Laplace")
        yield (
            f"What hangs on it. The 95 % interval of {name} leaves zero out by {without} and has it in by {with_zero}: "
            f"{_interval(a, name)} by Laplace, {_interval(b, name)} by quadrature."
        )
    if not turned and not changed and len(a):
        yield "What hangs on it. No coefficient's sign, and no 95 % interval's side of zero, is another one by Laplace."


def _interval(frame: pd.DataFrame, name: str) -> str:
    x, se = frame.loc[name, "x"], frame.loc[name, "se"]
    places = max(0, 1 - int(np.floor(np.log10(se)))) if se > 0 and np.isfinite(se) else 3
    return f"{fixed(x - WALD * se, places)} to {fixed(x + WALD * se, places)}"


def _posteriors(comparison: LinkComparison) -> Iterator[str]:
    fit = comparison.best
    for name in comparison.posteriors:
        part = comparison.table[name]
        away = ((fit.estimates() - part["mean"]) / part["sd"]).dropna()
        if away.empty:
            continue
        worst = str(away.abs().idxmax())
        yield (
            f"The {name} posterior. Of ML's estimates by {fit.approximation}, {worst} lies farthest from the "
            f"posterior's mean: {number(float(fit.estimates()[worst]))} and {number(float(part.loc[worst, 'mean']))}, "
            f"{number(abs(float(away[worst])), 2)} posterior SDs apart."
        )
        doubts = comparison.posteriors[name].attrs.get("doubts", "")
        if doubts and not comparison.posteriors[name].attrs.get("trusted", 1):
            yield f"The {name} posterior can't be trusted yet: {doubts}."
