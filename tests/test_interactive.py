"""The interactive pages as files, and in use, on a phone and by the keyboard; see also `test_interactive_numbers`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "interactive"
spec = importlib.util.spec_from_file_location("interactive_pages", ROOT / "docs" / "interactive_pages.py")
interactive_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interactive_pages)
NAMES = interactive_pages.NAMES

each_page = pytest.mark.parametrize("name", NAMES)


# ---- the files ----


@each_page
def test_a_page_is_one_small_file_that_loads_nothing(name):
    text = (FOLDER / f"{name}.html").read_text("utf-8")
    assert len(text.encode()) < 150_000
    assert not re.search(r"""<(script|img|iframe|link|source|object|embed)[^>]*\b(src|href|data)\s*=""", text)
    assert not re.search(r"""@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(|WebSocket""", text)
    assert "animation" not in text  # nothing moves by itself, whatever prefers-reduced-motion says
    assert "transition" not in text


@each_page
def test_a_page_asks_a_question_and_its_links_lead_somewhere(name):
    text = (FOLDER / f"{name}.html").read_text("utf-8")
    title = interactive_pages.question(name)
    assert title.endswith("?")
    assert f"<title>{title}</title>" in text
    for target in re.findall(r'href="([^"#]+)"', text):
        assert (FOLDER / target).exists(), target


@each_page
def test_what_is_committed_is_what_the_sources_make(name):
    """`python docs/interactive_pages.py` writes them."""
    assert (FOLDER / f"{name}.html").read_text("utf-8") == interactive_pages.page(name)


@each_page
def test_a_page_is_linked_from_the_readme_and_the_list_of_notebooks(name):
    assert f"(docs/interactive/{name}.html)" in (ROOT / "README.md").read_text("utf-8")
    assert f"(../docs/interactive/{name}.html)" in (ROOT / "notebooks" / "README.md").read_text("utf-8")


def test_every_notebook_and_page_has_a_small_thumbnail_in_the_readme():
    """`python docs/thumbnails.py` writes them, and the tables."""
    readme = (ROOT / "README.md").read_text("utf-8")
    wanted = {path.stem: f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    wanted |= {name: f"docs/interactive/{name}.html" for name in NAMES}
    for name, target in wanted.items():
        picture = (ROOT / "docs" / "thumbnails" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 20_000
        assert f"](docs/thumbnails/{name}.png)]({target})" in readme
    assert {path.stem for path in (ROOT / "docs" / "thumbnails").iterdir()} == set(wanted)


# ---- any page ----


@each_page
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_works_at_the_width_of_a_phone_and_of_a_screen(browser, name, width):
    browser.faults.clear()
    browser.requests.clear()
    browser.show(name, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width  # no scrolling sideways
    assert browser.faults == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []
    assert all(browser.run("[...document.querySelectorAll('figure svg')].map((s) => s.childNodes.length > 0)"))


@each_page
def test_a_page_can_be_used_by_the_keyboard_and_heard(browser, name):
    browser.show(name)
    unnamed = (
        "[...document.querySelectorAll('input, select')].filter((node) => !node.labels.length).map((node) => node.id)"
    )
    assert browser.run(unnamed) == []
    silent = "[...document.querySelectorAll('.numbers output')].filter((node) => !node.closest('[aria-live]')).length"
    assert browser.run(silent) == 0
    for needed in ("node.getAttribute('aria-valuetext')", "node.getAttribute('aria-label')", "node.tabIndex === 0"):
        assert browser.run(f"[...document.querySelectorAll('.handle')].every((node) => {needed})"), needed
    slider = browser.run("document.querySelector('input[type=range]').id")
    before = browser.number(f"{slider}-value")
    browser.press(f"#{slider}", "ArrowLeft", times=2)
    assert browser.number(f"{slider}-value") < before
    assert browser.run(f"document.getElementById({slider!r}).getAttribute('aria-valuetext')") == browser.text(
        f"{slider}-value"
    )


@each_page
def test_no_end_of_a_slider_breaks_a_page(browser, name):
    browser.show(name)
    browser.faults.clear()
    broken = "/NaN|undefined|\\[object/.exec(document.querySelector('main').innerHTML)?.input.length ?? 0"
    sliders = browser.run(
        "[...document.querySelectorAll('input[type=range]')].map((node) => [node.id, +node.value, +node.max])"
    )
    choices = browser.run(
        "[...document.querySelectorAll('select')].flatMap((s) => [...s.options].map((o) => [s.id, o.value]))"
    )
    for one, value in [("", ""), *choices]:
        browser.run(f"controls[{one!r}] && (controls[{one!r}].set({value!r}), onChange({one!r}))")
        for slider, usual, most in sliders:
            for position in (0, most, usual):
                browser.move(slider, position)
                assert not browser.run(broken), (one, value, slider, position)
    for position in (0, "max"):  # and all at once
        for slider, _, most in sliders:
            browser.move(slider, most if position else 0)
        assert not browser.run(broken), position
    assert browser.faults == []
