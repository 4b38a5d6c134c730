"""The pictures and the report: what is drawn, that nothing is fetched, that every name is escaped."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic import CHAINS, DRAWS, MODELS, both, posterior

import bayeslmm as blm
from bayeslmm.comparison import plots
from bayeslmm.comparison.comparison import compare_posteriors
from bayeslmm.comparison.report import equations, recipe, report_html
from bayeslmm.pictures.estimates import MOST_PARAMETERS

VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def comparisons():
    out = {name: both(blm.LMM.from_toml(MODELS / f"{name}.toml")) for name in ("heights", "sleepstudy", "dyestuff2")}
    diverging = np.random.default_rng(1).random((CHAINS, DRAWS)) < 0.02
    out["divergent"] = both(out["heights"].model, joint={"diverging": diverging})
    return out


@pytest.fixture(scope="module")
def odd():
    """A model whose names want escaping, for HTML and for matplotlib's mathematics."""
    rng = np.random.default_rng(1)
    data = {
        "y": rng.normal(size=24),
        "x": np.tile(["<1>", "a & b", "it's"], 8),
        "a < 'b' & $c$": np.repeat(["<g>", "h & $i$", "'j'", "k$"], 6),
    }
    hierarchy = blm.Hierarchy(response="y", fixed="1 + x", levels=(blm.Level(group=("a < 'b' & $c$",)),))
    return both(blm.LMM(hierarchy, data))


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


# Pictures


def test_forest_has_an_axis_per_parameter_with_all_four_sources(comparisons):
    c = comparisons["sleepstudy"]
    figure = plots.forest(c)
    assert titles(figure) == list(c.table.index)
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["ML", "REML", "joint", "marginal"]
    points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    at = [line.get_xdata()[0] for line in points]
    row = c.table.loc["beta[Intercept]"]
    expected = [row["ml", "estimate"], row["reml", "estimate"], row["joint", "mean"], row["marginal", "mean"]]
    np.testing.assert_allclose(at, expected)


def test_forest_draws_intervals_only_where_there_are_any(comparisons):
    """All have some; a perfect fit has none."""

    def bars(c):
        return [sum(len(line.get_xdata()) == 2 for line in a.lines) for a in plots.forest(c).axes]

    assert bars(comparisons["sleepstudy"]) == [4] * 6
    perfect = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 1, 2, 2, 4, 4], "g": list("aabbcc")})
    assert bars(both(perfect)) == [2] * 3


def test_densities_have_the_prior_and_both_fits(comparisons):
    c = comparisons["heights"]
    figure = plots.sd_densities(c)
    assert titles(figure) == ["sigma", "sigma_u2", "sigma_u3"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ML", "REML", "joint", "marginal", "prior"]
    assert all(len(axes.collections) == 1 for axes in figure.axes)


def test_pictures_go_into_axes_that_are_given(comparisons):
    from matplotlib.figure import Figure

    c = comparisons["heights"]
    figure = Figure()
    axes = figure.subplots(1, 4)
    assert plots.forest(c, axes) is figure
    one = figure.subplots()
    assert plots.design_matrix(c.model, one) is figure
    with pytest.raises(blm.DescriptionError, match="2 axes were given; this picture needs 4"):
        plots.forest(c, axes[:2])


def test_overview_has_both(comparisons):
    c = comparisons["sleepstudy"]
    assert titles(c.plot()) == [*c.table.index, "sigma", "sigma_u2[Intercept]", "sigma_u2[Days]"]


def test_caterpillar_is_sorted_and_shows_what_shrinkage_did(comparisons):
    c = comparisons["heights"]
    level = c.model.design.levels[0]
    figure = plots.caterpillar(c, level)
    (axes,) = figure.axes
    modes = c.reml.ranef["u2"]["Intercept"].sort_values()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(modes.index)
    drawn = {line.get_label(): line.get_xdata() for line in axes.lines}
    np.testing.assert_allclose(drawn["REML mode, 2 conditional SDs"], modes)
    assert (np.abs(drawn["without shrinkage"]) >= np.abs(modes)).all()


def test_caterpillar_of_many_groups_draws_sixty_and_says_so():
    rng = np.random.default_rng(1)
    lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": rng.normal(size=300), "g": np.repeat(np.arange(100), 3)})
    c = both(lmm)
    (axes,) = plots.caterpillar(c, lmm.design.levels[0]).axes
    assert len(axes.get_yticks()) == 60
    assert "60 of 100 groups, evenly spaced by rank" in axes.get_title(loc="left")


def test_design_matrix_has_a_band_per_level(comparisons):
    lmm = comparisons["heights"].model
    (axes,) = plots.design_matrix(lmm).axes
    assert len(axes.images) == 2
    for image, level in zip(axes.images, lmm.design.levels, strict=True):
        np.testing.assert_array_equal(image.get_array().filled(0), level.Z.T.toarray() != 0)
    assert "class:school" in axes.get_yticklabels()[0].get_text()


def test_funnel_marks_each_divergence(comparisons):
    c = comparisons["divergent"]
    (axes,) = plots.funnel(c).axes
    count = int(c.diagnostics.loc["joint", "divergences"])
    assert count > 0
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    assert len(crosses.get_xdata()) == count
    assert crosses.get_label() == f"divergences ({count})"


def test_many_fixed_effects_are_cut_to_what_can_be_read():
    rng = np.random.default_rng(1)
    columns = {f"x{k}": rng.normal(size=120) for k in range(30)}
    data = {"y": rng.normal(size=120), "g": np.repeat(np.arange(12), 10)} | columns
    c = both(blm.LMM("y ~ 1 + " + " + ".join(columns) + " + (1 | g)", data))
    names = plots.forest_names(c)
    assert len(names) == MOST_PARAMETERS
    assert names[-2:] == ["sigma", "sigma_u2"]
    plots.ess_bars(c)


def test_matplotlib_is_left_as_it_was(comparisons):
    import sys

    import matplotlib

    def open_figures() -> list[int]:
        pyplot = sys.modules.get("matplotlib.pyplot")
        return pyplot.get_fignums() if pyplot else []

    before, figures = dict(matplotlib.rcParams), open_figures()
    comparisons["heights"].plot()
    assert dict(matplotlib.rcParams) == before
    assert open_figures() == figures


def test_drawing_gives_no_warning_for_any_name(odd):
    from io import BytesIO

    for figure in (
        odd.plot(),
        plots.caterpillar(odd, odd.model.design.levels[0]),
        plots.design_matrix(odd.model),
    ):
        figure.savefig(BytesIO(), format="png", dpi=50)


# The report


class Reader(HTMLParser):
    """Reads strictly: every tag that opens closes, in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_report_is_one_sound_file_that_fetches_nothing(comparisons):
    page = report_html(comparisons["divergent"], title="Heights", source="A book", notes="One.\n\nTwo.")
    reader = read(page)
    assert re.findall(r"https?://", page) == []
    assert reader.sources
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    # Z, forest, densities, two caterpillars, ESS, the funnel of the joint run
    assert reader.tags.count("img") == 7
    assert not {"script", "link", "iframe"} & set(reader.tags)
    headings = ["The hierarchy", "The model", "Priors", "What the comparison shows", "Estimates", "Pictures"]
    for heading in [*headings, "Settings", "How to reproduce this"]:
        assert f"<h2>{heading}</h2>" in page


def test_report_has_every_parameter_prior_and_sentence(comparisons):
    c = comparisons["heights"]
    text = " ".join("".join(read(report_html(c)).text).split())
    for part in (*c.table.index, *c.model.priors.table()["reason"], *(found.text for found in c.findings)):
        assert part in text
    assert "random_seed 7" in text
    assert f"bayeslmm {blm.__version__}" in text


def test_report_escapes_every_name(odd):
    page = report_html(odd, title="<b>&", source="it's <here>", notes="<script>alert('no')</script>")
    reader = read(page)
    text = "".join(reader.text)
    for name in ("<b>&", "it's <here>", "<script>alert('no')</script>", *odd.table.index, "a < 'b' & $c$"):
        assert name in text
    assert "script" not in reader.tags
    assert any("<1>" in name or "it's" in name for name in odd.table.index)


def test_report_is_written_whole_or_not_at_all(comparisons, tmp_path, monkeypatch):
    c = comparisons["dyestuff2"]
    path = tmp_path / "new folder" / "report.html"
    assert c.report(path, title="First") == path
    assert "<title>First</title>" in path.read_text(encoding="utf-8")
    c.report(str(path), title="Second")
    assert "<title>Second</title>" in path.read_text(encoding="utf-8")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("bayeslmm.support.files.os.replace", full)
    with pytest.raises(blm.DescriptionError, match=r"can't be written to .*no space"):
        c.report(path, title="Third")
    assert "<title>Second</title>" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "The path is None; expected a text or a pathlib.Path"),
        (3, "The path is 3; expected"),
        (".", r"and \. a folder; write 'report\.html'"),
        ("pyproject.toml/report.html", "can't be written to pyproject.toml/report.html: .*Give a path"),
    ],
)
def test_paths_that_are_none_are_refused(comparisons, path, message):
    with pytest.raises(blm.DescriptionError, match=message):
        comparisons["dyestuff2"].report(path)


def test_report_without_random_effects_in_the_posterior_leaves_their_pictures_out(comparisons):
    lmm = comparisons["dyestuff2"].model
    c = compare_posteriors(lmm, {"marginal": posterior(lmm, 1, effects=False)})
    assert read(report_html(c)).tags.count("img") == 4


def test_recipe_is_python_that_states_the_given_priors_and_the_settings(comparisons):
    lines = recipe(comparisons["heights"])
    compile(lines, "recipe", "exec")
    assert "'sigma_u3': 'HalfStudentT(nu=3, sigma=1)'" in lines
    assert "draws=500, tune=500, chains=4, random_seed=7" in lines
    load = 'lmm = blm.LMM.from_toml("models/heights.toml")'
    assert load in recipe(comparisons["heights"], load)


def test_recipe_builds_the_same_model(comparisons):
    """Its formula and priors, as printed, are read back to the same description."""
    lmm = comparisons["sleepstudy"].model
    line = next(line for line in recipe(comparisons["sleepstudy"]).splitlines() if line.startswith("lmm = "))
    assert repr(lmm.hierarchy.formula) in line
    assert blm.Hierarchy.from_formula(lmm.hierarchy.formula) == lmm.hierarchy


def test_equations_name_each_level():
    model = blm.LMM.from_toml(MODELS / "pastes.toml")
    page = equations(model)
    for level in model.design.levels:
        assert f"for each of the {level.m} groups of {level.label}" in page
