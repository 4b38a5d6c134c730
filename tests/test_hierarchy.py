"""The description of a hierarchy: from keyword arguments, a formula, a dict or TOML, and back to each."""

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
from bayeslmm.description.levels import STRUCTURES
from bayeslmm.errors import DescriptionError

PUPILS = Hierarchy(response="Height", levels=(Level(group="class:school"), Level(group="school")))


def refused(message, make):
    """Expect a DescriptionError that says `message`."""
    with pytest.raises(DescriptionError, match=re.escape(message)):
        make()


# --- one description, however it is given


def test_a_formula_and_keyword_arguments_make_the_same_hierarchy():
    assert Hierarchy.from_formula("Height ~ 1 + (1 | school/class)") == PUPILS
    assert Hierarchy.from_formula("Height ~ (1|class:school) + (1|school)") == PUPILS


def test_levels_are_named_from_the_finest_on():
    assert PUPILS.names == ("u2", "u3")
    assert [level.label for level in PUPILS.levels] == ["class:school", "school"]
    assert PUPILS.columns == ("Height", "class", "school")


def test_a_group_is_a_text_or_a_tuple_of_columns():
    assert Level(group="a:b") == Level(group=("a", "b")) == Level(group=["a", "b"])
    assert Level(group="`my school`:b").group == ("my school", "b")
    assert Level(group=("a:b",)).group == ("a:b",)


def test_texts_are_brought_to_their_normal_form():
    h = Hierarchy(response=" log(y) ", fixed="x", levels=(Level(group="g", effects="x"),))
    assert (h.response, h.fixed, h.levels[0].effects) == ("log(y)", "1 + x", "1 + x")


def test_a_double_bar_is_one_level_and_repeated_groupings_are_two():
    (level,) = Hierarchy.from_formula("y ~ 1 + (x || g)").levels
    assert not level.correlated
    assert len(Hierarchy.from_formula("y ~ 1 + (1 | g) + (0 + x | g)").levels) == 2


def test_it_is_frozen_hashable_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PUPILS.fixed = "1 + x"
    assert len({PUPILS, Hierarchy.from_formula(PUPILS.formula)}) == 1
    with pytest.raises(TypeError):
        Hierarchy("y", "1")


def test_it_reads_well():
    assert str(PUPILS).splitlines() == [
        "Height ~ 1 + (1 | class:school) + (1 | school)",
        "  u2: 1 | class:school",
        "  u3: 1 | school",
    ]


def test_a_single_level_needs_no_tuple():
    assert Hierarchy(response="y", levels=Level(group="g")) == Hierarchy.from_formula("y ~ 1 + (1 | g)")


# --- round trips

columns = st.one_of(
    st.sampled_from(["x", "z", "class", "w1", "größe", "body mass", "a.b", "it's", "50%", "a|b", '"x"']),
    st.text(st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="`\\"), min_size=1, max_size=6)
    .map(str.strip)
    .filter(lambda name: name.isprintable() and name and not name.startswith("__")),
)  # fmt: skip


@st.composite
def matrices(draw):
    """Draw symmetric matrices with odd labels and entries from 1e-300 to 1e300, dense or sparse."""
    labels = draw(st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True))
    entry = st.floats(-1e300, 1e300) | st.sampled_from([0.1, -1e-300, 5.0, 0.0])
    m = len(labels)
    lower = np.tril(np.array(draw(st.lists(entry, min_size=m * m, max_size=m * m))).reshape(m, m) / 2)
    symmetric = lower + np.tril(lower, -1).T
    return labels, sparse.csc_array(symmetric) if draw(st.booleans()) else symmetric


@st.composite
def residuals(draw, name):
    """Draw residuals of every structure, with every part that it may have."""
    structure = draw(st.sampled_from(sorted(STRUCTURES)))
    parts = {"weights": name, "by": name, "time": name, "group": st.lists(name, min_size=1, max_size=2, unique=True)}
    parts["covariance"] = matrices().map(lambda made: KnownMatrix(labels=made[0], matrix=made[1]))
    kind = STRUCTURES[structure]
    must = [kind.needs] if kind.needs else []
    may = sorted(set(kind.takes) - {*must})
    chosen = must + draw(st.lists(st.sampled_from(may), unique=True))
    return Residual(structure=structure, **{key: draw(parts[key]) for key in chosen})


@st.composite
def hierarchies(draw):
    """Draw hierarchies with odd column names, crossed and nested levels, slopes, known matrices, residuals."""
    names = draw(st.lists(columns, min_size=6, max_size=6, unique=True))
    quoted = [f"`{name}`" for name in names]
    _, x, z, *groups = quoted
    sides = [
        f"{x}",
        f"1 + {x}",
        f"0 + {x}",
        f"{x} * {z}",
        f"({x} + {z})**2",
        f"{z} + {x}:{z}",
        f"{x} / {z}",
        "1",
    ]
    side = st.sampled_from(sides)
    keys = st.lists(st.sampled_from(range(3)), min_size=1, max_size=3, unique=True)
    chosen = draw(st.lists(keys, min_size=1, max_size=3, unique_by=frozenset))
    levels = [
        Level(
            group=tuple(names[3 + k] for k in key),
            effects=draw(side),
            correlated=draw(st.booleans()),
            **draw(st.just({}) | known_parts()),
        )
        for key in chosen
    ]
    assume(len(groups) == 3)
    residual = draw(st.just(Residual()) | residuals(st.sampled_from(names[1:])))
    return Hierarchy(response=quoted[0], fixed=draw(side), levels=tuple(levels), residual=residual)


@st.composite
def known_parts(draw):
    labels, matrix = draw(matrices())
    kind = draw(st.sampled_from(["covariance", "precision"]))
    made = KnownMatrix(labels=labels, matrix=matrix, precision=kind == "precision")
    return {kind: made, "known": draw(st.booleans())}


@given(hierarchies())
@settings(max_examples=75, deadline=None)
def test_formula_dict_and_toml_give_the_hierarchy_back(h):
    from bayeslmm.description.model_file import ModelFile

    beside = {
        kind: {name: m for name, lv in zip(h.names, h.levels, strict=True) if (m := getattr(lv, kind)) is not None}
        for kind in ("covariance", "precision")
    }
    unsaid = tuple(dataclasses.replace(level, known=False) for level in h.levels)
    said = Hierarchy.from_formula(h.formula, residual=h.residual, **beside)
    assert said == dataclasses.replace(h, levels=unsaid)
    assert Hierarchy.from_formula(h.to_formula()).formula == h.formula
    assert Hierarchy.from_dict(h.to_dict()) == h
    assert Hierarchy.from_dict(json.loads(json.dumps(h.to_dict()))) == h
    assert ModelFile.parse(h.to_toml()).hierarchy == h
    assert ModelFile.parse(h.to_toml()).hierarchy.to_toml() == h.to_toml()


def test_a_file_gives_the_hierarchy_back(tmp_path):
    path = tmp_path / "pupils.toml"
    path.write_text(PUPILS.to_toml(), encoding="utf-8")
    assert Hierarchy.from_toml(path) == PUPILS


def test_a_dict_is_plain_enough_for_json():
    assert Hierarchy.from_dict(json.loads(json.dumps(PUPILS.to_dict()))) == PUPILS


# --- what is refused


def test_a_model_needs_a_level():
    refused("add a group term such as (1 | group)", lambda: Hierarchy(response="y"))
    refused("add a group term such as (1 | group)", lambda: Hierarchy.from_formula("y ~ x"))


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ 1 + (1 | g) + (1 | g)",
        "y ~ 1 + (1 | g) + (x | g)",
        "y ~ 1 + (0 + x | g) + (x || g)",
        "y ~ 1 + (1 | a:b) + (1 | b:a)",
        "y ~ 1 + (1 | a/b) + (1 | a)",
        "y ~ 1 + (0 + x:z | g) + (0 + z:x | g)",
    ],
)
def test_an_effect_varies_once_between_the_same_groups(formula):
    refused("varies twice between the groups", lambda: Hierarchy.from_formula(formula))


def test_the_response_stands_on_one_side():
    level = Level(group="g")
    refused("'y' stands in the fixed part too", lambda: Hierarchy(response="y", fixed="x + y", levels=(level,)))
    refused("'y' stands in the offset too", lambda: Hierarchy(response="y", offset="y", levels=(level,)))
    refused("'g' stands in the level 'g' too", lambda: Hierarchy(response="g", levels=(level,)))
    slope = Level(group="g", effects="log(y)")
    refused("'log(y)' stands in the level 'g' too", lambda: Hierarchy(response="log(y)", levels=(slope,)))
    assert Hierarchy(response="I(post - pre)", fixed="pre", levels=(level,)).columns == ("post", "pre", "g")
    assert Hierarchy(response="y", levels=(slope,)).columns == ("y", "g")


def test_an_offset_is_said_in_a_formula_a_keyword_or_a_fixed_part():
    said = Hierarchy.from_formula("y ~ x + offset(log(n)) + (1 | g)")
    assert said.offset == "log(n)"
    level = Level(group="g")
    assert Hierarchy(response="y", fixed="x", offset="log( n )", levels=(level,)) == said
    assert Hierarchy(response="y", fixed="x + offset(log(n))", levels=(level,)) == said
    assert Hierarchy.from_formula("y ~ x + (1 | g)", offset="log(n)") == said
    assert Hierarchy.from_formula(said.formula) == Hierarchy.from_dict(said.to_dict()) == said
    assert said.formula == "y ~ 1 + x + offset(log(n)) + (1 | g)"
    assert 'offset = "log(n)"' in said.to_toml()
    both = Hierarchy.from_formula("y ~ offset(a) + (1 | g)", offset="b")
    assert both.offset == "a + b"
    assert "n" in said.columns
    refused("offset is a text", lambda: Hierarchy(response="y", offset=3, levels=(level,)))
    refused("an offset needs a column", lambda: Hierarchy(response="y", offset="2", levels=(level,)))


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("group is empty", lambda: Level(group="")),
        ("group is empty", lambda: Level(group=())),
        ("a column name is empty", lambda: Level(group=("a", " "))),
        ("group is a text such as 'class:school'", lambda: Level(group=3)),
        ("group is a text such as 'class:school'", lambda: Level(group=("a", 3))),
        ("stands twice", lambda: Level(group="a:a")),
        ("stands twice", lambda: Level(group=("a", "a"))),
        ("a level for each of 'b:a' and 'a'", lambda: Level(group="a/b")),
        ("rename the column", lambda: Level(group=("a`b",))),
        ("effects is a text such as '1'", lambda: Level(group="g", effects=1)),
        ("has no effects", lambda: Level(group="g", effects="0")),
        ("make it a level of its own", lambda: Level(group="g", effects="(1 | g)")),
        ("correlated is True or False", lambda: Level(group="g", correlated="no")),
        ("the residual has no structure 'ar2'", lambda: Residual(structure="ar2")),
        ("response is a text", lambda: Hierarchy(response=3, levels=(Level(group="g"),))),
        ("the response is empty", lambda: Hierarchy(response=" ", levels=(Level(group="g"),))),
        ("the response is one column", lambda: Hierarchy(response="a + b", levels=(Level(group="g"),))),
        ("fixed is a text", lambda: Hierarchy(response="y", fixed=["x"], levels=(Level(group="g"),))),
        ("a level of its own", lambda: Hierarchy(response="y", fixed="(1 | g)", levels=Level(group="g"))),
        ("second `~`", lambda: Hierarchy(response="y", fixed="y ~ x", levels=(Level(group="g"),))),
        ("levels is a tuple of Level", lambda: Hierarchy(response="y", levels="g")),
        ("each of the levels is a Level", lambda: Hierarchy(response="y", levels=("g",))),
        ("residual is a Residual", lambda: Hierarchy(response="y", levels=Level(group="g"), residual="iid")),
        ("Did you mean 'levels'?", lambda: Hierarchy.from_dict({"response": "y", "level": []})),
        ("Did you mean 'group'?", lambda: Hierarchy.from_dict({"response": "y", "levels": [{"groups": 1}]})),
        ("a Hierarchy needs a response", lambda: Hierarchy.from_dict({})),
        ("a Level needs a group", lambda: Level.from_dict({})),
        ("made from a mapping", lambda: Hierarchy.from_dict([])),
    ],
)  # fmt: skip
def test_a_wrong_part_is_refused_with_what_to_write(message, make):
    refused(message, make)
