"""Tables of predictions where the outcome isn't Gaussian: means of rows, contrasts and slopes, on either scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DescriptionError
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.link_model import LinkModel
from bayeslmm.predictions.asked import By, Differences, beside, check_level, scope_words
from bayeslmm.predictions.comparisons import asked_changes, contrasts_of, group_words
from bayeslmm.predictions.encoding import Rows
from bayeslmm.predictions.linear import averages
from bayeslmm.predictions.link_of_fit import link_result_of
from bayeslmm.predictions.link_quantities import Derivative, Difference, Mean, Quantity
from bayeslmm.predictions.link_results import SEED, Asked, LinkResult
from bayeslmm.predictions.link_scales import Scale, scale_of
from bayeslmm.predictions.predictions import dropped_words, numbers_of
from bayeslmm.predictions.results import Estimates
from bayeslmm.predictions.scopes.registry import LINK_SCOPES, scopes_of
from bayeslmm.predictions.slopes import Slope, asked_slopes
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.table import Table

CATEGORY = "category"


def link_predictions(
    model: LinkModel,
    result: Any,
    data: Any = None,
    *,
    scope: Any = "observed",
    kind: str = "mean",
    level: float = 0.95,
    by: Any = None,
    hypothesis: Any = None,
    missing: str = "error",
) -> Table:
    """A table of predictions. See `GLMM.predictions`."""
    if kind == "response":
        if hypothesis is not None or not By.of(by, usual=False).each:
            raise DescriptionError(
                "kind='response' is of new observations, one for each row; by= averages over rows. Write kind='mean' "
                "for averages, or leave by= out."
            )
        return _new_observations(model, result, data, scope, check_level(level), missing)
    asking = _Asking(model, result, data, scope, kind, level, By.of(by, usual=False), missing, "predictions")
    frame = asking.table([Mean()], hypothesis, columns=())
    note = [asking.by.words and f"Means {asking.by.words}."]
    name = model.outcome.name
    what = "linear predictors" if kind == "link" else "probabilities" if asking.scale.names else "expected values"
    return asking.finished(frame, f"Predictions of {name}: {what}", note)


def link_comparisons(
    model: LinkModel,
    result: Any,
    variables: Any = None,
    data: Any = None,
    *,
    by: Any = None,
    hypothesis: Any = None,
    scope: Any = "observed",
    kind: str = "mean",
    level: float = 0.95,
    missing: str = "error",
) -> Table:
    """A table of contrasts. See `GLMM.comparisons`."""
    asking = _Asking(model, result, data, scope, kind, level, By.of(by, usual=True), missing, "comparisons")
    asked = asked_changes(model.design, variables)
    contrasts = [one for name, how in asked.items() for one in contrasts_of(model.design, asking.rows, name, how)]
    frame = asking.table([Difference(contrast=one) for one in contrasts], hypothesis, columns=("variable", "contrast"))
    note = ["Differences, everything else as it is in the row.", group_words(asking.rows, list(asked))]
    note.append(f"Contrasts {asking.by.words}." if asking.by.words else "")
    return asking.finished(frame, f"Comparisons of {model.outcome.name}", note)


def link_slopes(
    model: LinkModel,
    result: Any,
    variables: Any = None,
    data: Any = None,
    *,
    by: Any = None,
    hypothesis: Any = None,
    scope: Any = "observed",
    kind: str = "mean",
    level: float = 0.95,
    missing: str = "error",
) -> Table:
    """A table of marginal effects. See `GLMM.slopes`."""
    asking = _Asking(model, result, data, scope, kind, level, By.of(by, usual=True), missing, "slopes")
    names = asked_slopes(model.design, variables)
    along = [Derivative(slope=Slope.along(model.design, name)) for name in names]
    frame = asking.table(along, hypothesis, columns=("variable", "contrast"))
    note = ["Changes per unit of the variable.", f"Slopes {asking.by.words}." if asking.by.words else ""]
    return asking.finished(frame, f"Slopes of {model.outcome.name}", note)


def _new_observations(model: LinkModel, result: Any, data: Any, scope: Any, level: float, missing: str) -> Table:
    """What new observations of rows would be, from draws of them."""
    from bayeslmm.predictions.link_predict import link_predict, trials_columns

    name = model.outcome.name
    if isinstance(result, GLMMFit):
        raise DescriptionError(
            "New observations are drawn from a posterior: write glmm.predictions(glmm.sample(), kind='response'). A "
            "fit has their means, kind='mean'."
        )
    if model.family.responses(model.outcome):
        raise DescriptionError(
            f"Categories of {name} have no mean and no interval; kind='mean' gives the probability of each, "
            "glmm.predict(tree, kind='response') draws some."
        )
    drawn = link_predict(model, result, data, kind="response", scope=scope, missing=missing, random_seed=SEED)
    y = drawn.values.reshape(-1, drawn.sizes["row"])
    how: Any = "inverted_cdf" if model.family.discrete else "linear"
    low, high = np.quantile(y, (0.5 - level / 2, 0.5 + level / 2), axis=0, method=how)
    found = Estimates(estimate=y.mean(axis=0), sd=y.std(axis=0, ddof=1), low=low, high=high)
    of_trials = ", successes in the trials of each row" if model.outcome.trials is not None else ""
    scopes = scopes_of(scope, model.design, LINK_SCOPES)
    also = () if data is None else trials_columns(model)
    rows = Rows.read(model.design, data, scopes, missing, also)
    note = [
        f"In units of {name}: new observations{of_trials}.",
        f"estimate, sd, interval: mean, SD and the central {100 * level:g} % of {len(y):,} draws, one for each of the "
        "posterior's.",
        scope_words(model.design, scopes),
        dropped_words(rows),
    ]
    title = f"Predictions of {name}: new observations (posterior)"
    return Table(frame=beside(rows.frame, numbers_of(found, level)), title=title, note="\n".join(filter(None, note)))


class _Asking:
    """What all three tables have in common: a result, rows under a scope, a scale, groups of rows."""

    def __init__(self, model, result, data, scope, kind, level, by: By, missing, verb: str):
        self.model, self.by = model, by
        self.scale: Scale = scale_of(model, kind)
        self.level = check_level(level)
        self.scopes = scopes_of(scope, model.design, LINK_SCOPES)
        known = any(one.needs_effects and not one.integrates and one.name != "new" for one in self.scopes)
        self.own: LinkResult = link_result_of(model, result, f"glmm.{verb}(result)", known)
        self.rows = Rows.read(model.design, data, self.scopes, missing, by.columns)
        self.asked = Asked(
            scale=self.scale,
            integrated=tuple(one.integrates for one in self.scopes),
            new=tuple(
                one.draws and bool(taken.labels) for one, taken in zip(self.scopes, self.rows.taken, strict=True)
            ),
            means=self.rows.means,
            level=self.level,
        )

    def table(self, quantities: Sequence[Quantity], hypothesis: Any, columns: Sequence[str]) -> pd.DataFrame:
        """A row for each quantity, group of rows and category."""
        groups, frame = (None, self.rows.frame) if self.by.each else self.by.groups(self.rows.frame)
        differences = Differences.of(hypothesis, self.by, frame)
        with one_blas_thread():
            found = [self._estimates(one, groups, len(frame), differences) for one in quantities]
        frame = frame if differences is None else differences.columns
        count, names = len(frame), self.scale.names
        C = max(len(names), 1)
        labels: dict[str, np.ndarray] = {}
        if columns:
            labels["variable"] = np.repeat([one.variable for one in quantities], C * count)
            labels["contrast"] = np.repeat([one.label for one in quantities], C * count)
        if names:
            labels[CATEGORY] = np.tile(np.repeat(np.array(names, dtype=object), count), len(quantities))
        flat = Estimates(**{
            part: np.concatenate([getattr(one, part).ravel() for one in found])
            for part in ("estimate", "sd", "low", "high")
        })  # fmt: skip
        many = len(quantities) * C
        repeated = frame if many == 1 else pd.concat([frame] * many, ignore_index=not self.by.each)
        return beside(repeated, {**labels, **numbers_of(flat, self.level)})

    def _estimates(
        self, quantity: Quantity, groups: np.ndarray | None, count: int, differences: Differences | None
    ) -> Estimates:
        parts = []
        sizes = np.bincount([] if groups is None else groups, minlength=count)
        for some in self.rows.blocks():
            L = None
            if groups is not None:
                L = averages(groups[some], sizes)
                L = L if differences is None else differences.matrix(count) @ L
            parts.append((quantity.linears(self.rows, some), L))
        return self.own.estimates(quantity, parts, self.asked, each=groups is None)

    def finished(self, frame: pd.DataFrame, title: str, said: Sequence[str]) -> Table:
        """The table with its words."""
        note = [self.scale.words, self.own.words(self.asked), scope_words(self.model.design, self.scopes), *said]
        if self.scale.kind == "mean" and any(one.name == "population" for one in self.scopes):
            note.append(
                "With u = 0 this is a group in the middle, not the mean over groups: scope='population-averaged'."
            )
        note += [dropped_words(self.rows), self.own.doubts]
        return Table(frame=frame, title=f"{title} ({self.own.name})", note="\n".join(filter(None, note)))
