"""What the notebooks are committed with. That they run, and that their numbers hold, `notebooks/run.py` finds out."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.notebook_prose import seed_decided_numbers

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PRINTED = [  # REML's b in the thread, to the digits that its optimum is good for (about 4e-5)
    *[-0.9421207, -0.0119456, 0.9540663],
    *[-1.2863150, -0.6696624, -0.4058639, 0.3810632, 0.6372665, 1.3435117, -0.1097978, 0.1097978],
]

CONVENTIONS = frozenset({"95", "1.01", "0.7", "1,000"})  # an interval's level, R-hat's limit, k-hat's, a round number
TERMS = [  # of the field: a student of regression has not met them
    *["random effects", "fixed effects", "joint density", "marginal", "conditional", "likelihood", "ML", "REML"],
    *["BLUP", "mode(?!l)", "nested", "singular", "profile", "crossed", "prior", "posterior", "chains", "R-hat", "ESS"],
    *["Monte Carlo error", "NUTS", "divergence", "funnel", "non-centred", "k-hat"],
]

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read_notebook(path: Path):
    return nbformat.read(path, as_version=4)


def outputs(notebook) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(output) -> str:
    """What an output says, tables included, without the markup."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    html = re.sub(r"<style.*?</style>|<[^>]+>", " ", output.data.get("text/html", ""), flags=re.DOTALL)
    return html or output.data.get("text/markdown", "") or output.data.get("text/plain", "")


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 16
    assert "joint_density" in [path.stem for path in NOTEBOOKS]


@each_notebook
def test_is_valid_small_and_ordered(path):
    notebook = read_notebook(path)
    nbformat.validate(notebook)
    assert path.stat().st_size < 1_000_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@each_notebook
def test_is_committed_with_outputs_and_without_errors_or_warnings(path):
    shown = outputs(read_notebook(path))
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 3
    for output in shown:
        assert output.output_type != "error", text_of(output)
        assert output.get("name") != "stderr", text_of(output)
        assert "DataTree" not in text_of(output)


@each_notebook
def test_names_no_place_on_the_disk(path):
    for cell in read_notebook(path).cells:
        said = [cell.source, *[text_of(output) for output in cell.get("outputs", [])]]
        for text in said:
            assert not re.search(r"(?<![\w.])/(home|work|tmp|Users|usr|root)/|[A-Z]:\\\\", text), text


def test_the_joint_density_notebook_shows_what_the_thread_printed():
    notebook = read_notebook(ROOT / "notebooks" / "joint_density.ipynb")
    table = next(text for text in map(text_of, outputs(notebook)) if "lme4, in the thread" in text)
    numbers = [float(x) for x in re.findall(r"-?\d+\.\d{7}", table)]
    rows = zip(*[iter(numbers)] * 3, strict=True)
    for printed, (thread, fitted, formula) in zip(PRINTED, rows, strict=True):
        assert thread == printed
        assert fitted == pytest.approx(printed, abs=5e-5)
        assert formula == pytest.approx(fitted, abs=2e-7)


def test_the_joint_density_notebook_agrees_with_itself():
    """Each pair of printed numbers that the text calls equal is equal."""
    text = "\n".join(map(text_of, outputs(read_notebook(ROOT / "notebooks" / "joint_density.ipynb"))))

    def number(label: str) -> float:
        return float(re.search(rf"{label}[^\n]*?\s(-?\d+\.\d+)", text).group(1))

    two_levels = number("log joint, by hand")
    assert number(r"log joint, blm\.density") == pytest.approx(two_levels, rel=1e-10)
    assert number("log joint, PyMC") == pytest.approx(two_levels, rel=1e-10)
    assert number("log marginal, PyMC") == pytest.approx(number(r"log marginal  "), rel=1e-10)
    three_levels = number("three levels, the formula above")
    assert number(r"three levels, blm\.density") == pytest.approx(three_levels, rel=1e-10)
    assert number(r"two levels, Z = \[Z W\]") == pytest.approx(three_levels, rel=1e-10)
    assert number(r"log p\(y\), adding up over u:") == pytest.approx(number(r"log p\(y\), marginal formula:"), rel=1e-9)
    assert number("log of slip 1's integral") == pytest.approx(
        number("log marginal without schools, sigma_u3 = 0:"), rel=1e-5
    )


@each_notebook
def test_prose_has_no_number_that_a_seed_decides(path):
    assert seed_decided_numbers(read_notebook(path), text_of, CONVENTIONS) == []


def cell(source: str, printed: str | None = None):
    """A code cell with what it printed; without, a cell of prose."""
    if printed is None:
        return nbformat.v4.new_markdown_cell(source)
    return nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output("stream", text=printed)])


@pytest.mark.parametrize(
    ("prose", "refused"),
    [
        ("The fit says 0.3199, that is 0.32, at the 0.05 of the code.", []),
        ("The means differ by 3.6 errors.", ["3.6"]),
        ("Its mean, doubled, is 1.4, and 11 draws diverged.", ["1.4", "11"]),
        ("The sum, `7.77` in code, [here](https://x.org/12345), with $\\sigma_{u2}^{10}$, is 8.25.", ["8.25"]),
        ("Two of 18 pupils; 95 % of 1,000 draws.", []),
    ],
)
def test_the_check_of_prose_follows_the_seed_through_names(prose, refused):
    cells = [
        cell("level = 0.05\nprint(fit.sigma, 18)", "0.3199 18"),
        cell("draws = lmm.sample(draws=1000, random_seed=3)\nprint(draws.mean())", "3.6"),
        cell("twice = []\nfor x in draws:\n    twice.append(2 * x)", ""),
        cell("twice[0] = 0\nprint(sum(twice), diverged)", "8.25 11"),
        cell("m = np.mean(twice)", ""),
        cell("print(m)", "1.4"),
        cell("m = fit.sigma\nprint(m)", "0.3199"),
        cell(prose),
    ]
    found = seed_decided_numbers(nbformat.v4.new_notebook(cells=cells), text_of, CONVENTIONS)
    assert [line.partition(" in: ")[0] for line in found] == refused


def unexplained(notebook) -> list[str]:
    """The words of the field whose first place, exercises left out, isn't in bold, where it is explained."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = prose.partition("## Exercises")[0]
    text = re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)|^#.*", " ", prose, flags=re.MULTILINE)
    found = []
    for term in TERMS:
        word = rf"\b{term}" if term[0].isupper() else rf"\b[{term[0].upper()}{term[0]}]{term[1:]}"
        first, explained = re.search(word, text), re.search(rf"\*\*[^*\n]*{word}[^*\n]*\*\*", text)
        if first and not (explained and explained.start() <= first.start()):
            found.append(f"{term} in: {text[first.start() - 60 : first.end() + 40]}")
    return found


@each_notebook
def test_a_word_of_the_field_is_explained_before_it_is_used(path):
    assert unexplained(read_notebook(path)) == []


def test_the_joint_density_notebook_uses_every_word():
    notebook = read_notebook(ROOT / "notebooks" / "joint_density.ipynb")
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert [term for term in TERMS if not re.search(rf"\b{term}", prose)] == []


def test_every_word_is_in_the_glossary_and_the_glossary_is_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    entries = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert entries == sorted(entries, key=lambda entry: re.sub("[^a-z]", "", entry.lower()))
    wanted = {term.replace("(?!l)", "") for term in TERMS}
    assert [term for term in wanted if not any(term.lower() in entry.lower() for entry in entries)] == []


def test_every_notebook_is_in_the_table_and_links_lead_somewhere():
    pages = [ROOT / "notebooks" / "README.md", ROOT / "docs" / "glossary.md", ROOT / "docs" / "claims.md"]
    texts = {page: page.read_text("utf-8") for page in pages}
    for path in NOTEBOOKS:
        assert f"({path.name})" in texts[pages[0]]
        texts[path] = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown")
        assert path.stem == "joint_density" or "](../docs/glossary.md)" in texts[path]
    for page, text in texts.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_joint_density_notebook_links_the_thread_and_shows_both_models():
    notebook = read_notebook(ROOT / "notebooks" / "joint_density.ipynb")
    assert "https://stats.stackexchange.com/questions/386474/" in notebook.cells[0].source
    table = next(text for text in map(text_of, outputs(notebook)) if "nested" in text and "log-likelihood" in text)
    numbers = [float(x) for x in re.findall(r"-?\d+\.\d{3}", table)]
    assert numbers[:4] == [-8.928, -8.908, -5.041, -4.501]  # nested ML, REML; crossed ML, REML
    assert numbers[-4:] == [0, 0.320, 0.557, 0.656]  # the SD between schools
