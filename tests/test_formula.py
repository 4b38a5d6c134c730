"""The formula language: what lme4's notation means here, and what is refused, with a caret under it."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayeslmm.errors import DescriptionError
from bayeslmm.formula.parse import columns_of, group_columns, normal_form, normal_response, parse, terms_of, write
from bayeslmm.formula.tokens import quote
from bayeslmm.formula.transforms import OPTIONS


def terms(text):
    """Read the group terms of a formula as (label, effects, whether correlated)."""
    return [(":".join(term.group), term.effects, term.structure == "us") for term in parse(text).terms]


# --- group terms, as in lme4


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ("(1 | g)", [("g", "1", True)]),
        ("(1|g)", [("g", "1", True)]),
        ("(1 + x | g)", [("g", "1 + x", True)]),
        ("(x | g)", [("g", "1 + x", True)]),
        ("(x || g)", [("g", "1 + x", False)]),
        ("(0 + x | g)", [("g", "0 + x", True)]),
        ("(-1 + x | g)", [("g", "0 + x", True)]),
        ("(x - 1 | g)", [("g", "0 + x", True)]),
        ("(x + 0 || g)", [("g", "0 + x", False)]),
        ("(1 + x * z | g)", [("g", "1 + x * z", True)]),
        ("(log(x) | g)", [("g", "1 + log(x)", True)]),
        ("(1 | a:b)", [("a:b", "1", True)]),
        ("(1 | b:a)", [("b:a", "1", True)]),
        ("(1 | a/b)", [("b:a", "1", True), ("a", "1", True)]),
        ("(1 | a/b/c)", [("c:b:a", "1", True), ("b:a", "1", True), ("a", "1", True)]),
        ("(x || a/b)", [("b:a", "1 + x", False), ("a", "1 + x", False)]),
        ("(1 | (a:b))", [("a:b", "1", True)]),
        ("(1 | a) + (1 | b)", [("a", "1", True), ("b", "1", True)]),
        ("(1 | g) + (0 + x | g)", [("g", "1", True), ("g", "0 + x", True)]),
        ("((1 | g))", [("g", "1", True)]),
        ("(x + (1 | g))", [("g", "1", True)]),
        (
            "(1 | `school district`/`class room`)",
            [("class room:school district", "1", True), ("school district", "1", True)],
        ),
        ("(1 | größe)", [("größe", "1", True)]),
        ("(1 | class)", [("class", "1", True)]),
    ],
)
def test_group_terms_are_read_as_lme4_reads_them(bar, expected):
    assert terms(f"y ~ 1 + {bar}") == expected


def test_the_fixed_part_is_what_is_left_when_the_bars_are_gone():
    assert parse("y ~ (1 | a) + x + (1 | b) + z").fixed == "1 + x + z"
    assert parse("y ~ (1 | a)").fixed == "1"
    assert parse("y ~ 0 + x + (1 | a)").fixed == "0 + x"


def test_a_formula_may_have_several_lines():
    assert terms("y ~ 1\n  + (1\n | g)\n") == [("g", "1", True)]


# --- the normal form of the fixed part


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", "1"),
        ("1", "1"),
        ("0", "0"),
        ("-1", "0"),
        ("x", "1 + x"),
        ("x+1", "1 + x"),
        ("x - 1", "0 + x"),
        ("0 + x + 1", "1 + x"),
        ("(x + z)", "1 + x + z"),
        ("x*z", "1 + x * z"),
        ("x : z", "1 + x:z"),
        ("x*z - x:z", "1 + x * z - x:z"),
        ("(a+b)*c", "1 + (a + b) * c"),
        ("(a+b)^2", "1 + (a + b)**2"),
        ("a/b", "1 + a / b"),
        ("a*(b*c)", "1 + a * (b * c)"),
        ("`body mass`+`class`", "1 + `body mass` + class"),
        ("I(x^2)", "1 + I(x ** 2)"),
        ("{x**2}", "1 + I(x ** 2)"),
        ("I((x-1)/(2*z))", "1 + I((x - 1) / (2 * z))"),
        ("I(-x**2)", "1 + I(-x ** 2)"),
        ("I((-x)**2)", "1 + I((-x) ** 2)"),
        ("log(`body mass`)", "1 + log(`body mass`)"),
        ("scale(log(x), center=False)", "1 + scale(log(x), center=False)"),
        ("poly(x,2)", "1 + poly(x, 2)"),
        ('bs(x, df=4, extrapolation="clip")', "1 + bs(x, df=4, extrapolation='clip')"),
        ("bs(x, knots=[1, 2.50])", "1 + bs(x, knots=[1, 2.5])"),
        ('C(g, contr.treatment("b"))', "1 + C(g, contr.treatment(base='b'))"),
        ("C(g, contr.treatment(base=2))", "1 + C(g, contr.treatment(base=2))"),
        ("C(g, contr.sum)", "1 + C(g, contr.sum)"),
        ("C(g, Treatment(reference='b'))", "1 + C(g, Treatment(reference='b'))"),
        ("C(g, levels=['b', 'a'])", "1 + C(g, levels=['b', 'a'])"),
    ],
)
def test_the_normal_form_makes_the_intercept_explicit_and_keeps_the_rest(text, normal):
    assert normal_form(text) == normal
    assert normal_form(normal) == normal


names = st.sampled_from(["a", "b", "c", "log(d)", "`e f`", "I(a ** 2)"])
expressions = st.recursive(
    names,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", ":", "/"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        st.tuples(inner, st.sampled_from(["*", ":", "/"]), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} + {t[1]})"),
    ),
    max_leaves=5,
)


def sensible(text):
    """Say whether a formula is accepted; random ones repeat terms, which is refused."""
    try:
        normal_form(text)
    except DescriptionError:
        return False
    return True


@given(
    st.lists(expressions, min_size=1, max_size=3).map(" + ".join).filter(sensible),
    st.sampled_from(["", "0 + "]),
)
@settings(max_examples=150, deadline=None)
def test_the_normal_form_is_a_fixed_point_with_the_same_terms(text, start):
    normal = normal_form(start + text)
    assert normal_form(normal) == normal
    assert terms_of(normal) == terms_of(start + text)
    assert columns_of(normal) == columns_of(text)


@given(st.lists(expressions, min_size=1, max_size=3).map(" + ".join).filter(sensible))
@settings(max_examples=100, deadline=None)
def test_formulaic_finds_the_same_terms_in_the_normal_form(text):
    from formulaic import Formula

    ours = {frozenset(factor.strip("`") for factor in term) for term in terms_of(text)}
    theirs = {frozenset(str(f.expr) for f in term.factors if str(f.expr) != "1") for term in Formula(normal_form(text))}
    assert ours == theirs


# --- response and columns


def test_the_response_is_a_column_or_a_transform_of_one():
    assert normal_response("y") == "y"
    assert normal_response("`reaction time`") == "`reaction time`"
    assert normal_response("log( y )") == "log(y)"
    assert normal_response("I(y/1000)") == "I(y / 1000)"


def test_columns_are_listed_once_in_order_without_functions():
    text = "log(y) ~ x*z + poly(w, 2) + C(`my f`, contr.sum) + (x | a/b) + (1 | g)"
    assert columns_of(text) == ("y", "x", "z", "w", "my f", "b", "a", "g")
    assert columns_of("1 + x + log(z)") == ("x", "z")
    assert columns_of("log(y)") == ("y",)
    assert columns_of("1") == ()


def test_a_grouping_is_columns_joined_by_colons():
    assert group_columns("class:school") == ("class", "school")
    assert group_columns("`a:b`") == ("a:b",)
    with pytest.raises(DescriptionError, match=r"several groupings.*'b:a' and 'a'"):
        group_columns("a/b")


WHATEVER = [
    "yield",
    "class",
    "lambda",
    "None",
    "log",
    "C",
    "poly",
    "offset",
    "größe",
    "a.b",
    "body mass",
    "it's",
    "x(1]",
]


@pytest.mark.parametrize("name", WHATEVER)
def test_a_column_is_reached_by_its_plain_name_whatever_it_is(name):
    written = quote(name)
    assert written == (f"`{name}`" if name in WHATEVER[-4:] else name)
    parts = parse(f"{written} ~ z + (1 | g)")
    assert (parts.response, parts.columns[0]) == (written, name)
    parts = parse(f"y ~ {written} + z*log({written}) + I({written} + 1) + ({written} | {written}:g)")
    assert parts.columns == ("y", name, "z", "g")
    assert parts.terms[0].group == (name, "g")
    assert parts.terms[0].effects == f"1 + {written}"
    assert f"I({written} + 1)" in parts.fixed
    assert group_columns(f"{written}:`{name}2`") == (name, f"{name}2")


def test_a_word_of_python_beside_a_colon_is_a_product_of_columns():
    assert terms_of("lambda: x") == (frozenset(), frozenset(["lambda", "x"]))


@pytest.mark.parametrize(
    "text",
    [
        "I(post - pre) ~ pre",
        "log(post / pre) ~ pre",
        "log(y) ~ y",
        "y ~ log(y)",
        "I(a - b) ~ (a | g)",
        "log(g) ~ (1 | g)",
    ],
)
def test_only_the_same_term_may_not_stand_on_both_sides(text):
    assert parse(text).response == normal_response(text.split("~")[0])


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("y ~ x + offset(log(n)) + (1 | g)", "log(n)"),
        ("y ~ offset(n)", "n"),
        ("y ~ offset( 2*n-m ) + x", "2 * n - m"),
        ("y ~ x + offset(a) + offset(log(`b c`)) + z", "a + log(`b c`)"),
        ("y ~ x + offset", ""),
    ],
)
def test_offsets_are_taken_out_of_the_fixed_part_and_summed(text, offset):
    parts = parse(text)
    assert parts.offset == offset
    assert "offset(" not in parts.fixed
    again = parse(write(parts.response, parts.fixed, parts.terms, parts.offset))
    assert (again.fixed, again.offset) == (parts.fixed, parts.offset)


# --- malformed formulas: the message, and the caret under the culprit

MALFORMED = [
    # formula, the text under the caret ("" for the end), what the message says
    ("", "", "the formula is empty"),
    ("y x", "", "`~` is missing"),
    ("~ x", "~", "nothing stands left of the `~`"),
    ("y ~", "", "nothing follows the `~`"),
    ("y ~ x ~ z", "~ z", "second `~`"),
    ("y ~ x +", "+", "nothing follows this operator"),
    ("y ~ x z", "z", "expected an operator"),
    ("y ~ (x + z", "(x", "never closed"),
    ("y ~ poly(x, 2", "(x, 2", "never closed"),
    ("y ~ x)", ")", "closes nothing"),
    ("y ~ ()", "()", "parentheses are empty"),
    ("y ~ `x", "`x", "never ends"),
    ("y ~ 'x", "'x", "never ends"),
    ("y ~ ``", "``", "column name is empty"),
    ("y ~ x ? z", "? z", "no place in a formula"),
    ("y ~ x %in% z", "%in%", "write a / b"),
    ("y ~ 'x'", "'x'", "put a column name in backticks"),
    ("y ~ `1` + x", "`1`", "can't be told from the intercept"),
    ("y ~ x + x", "x", "stands twice"),
    ("y ~ x:z + z:x", "z:x", "stands twice"),
    ("y ~ x - z", "z", "cannot be subtracted"),
    ("y ~ 2 + x", "2", "0 or 1"),
    ("y ~ 2 * x", "2 * x", "I(2 * x)"),
    ("y ~ x^9", "9", "up to 5"),
    ("y ~ a*b*c*d*e*f*g*h*i*j", "*i", "more than 500 terms"),
    ("y ~ " + "(" * 50 + "x" + ")" * 50, None, "more than 40 parentheses"),
    ("y + z ~ x", "+ z", "I(a + b)"),
    ("3 ~ x", "3", "not a number"),
    ("poly(y, 2) ~ x", "poly", "one column"),
    ("y ~ x + y", "y", "the response 'y' stands on the right side too"),
    ("log(y) ~ x + log( y )", "log", "the response 'log(y)' stands on the right side too"),
    ("I(b-a) ~ {b - a} + a", "{b", "the response 'I(b - a)' stands on the right side too"),
    ("y ~ x*y", "y", "the response 'y' stands on the right side too"),
    ("y ~ (y | g)", "y", "the response 'y' stands on the right side too"),
    ("y ~ (1 | y)", "y)", "the response 'y' stands on the right side too"),
    # group terms
    ("y ~ (1 | )", ")", "nothing stands right of the bar"),
    ("y ~ ( | g)", "| g)", "nothing stands left of the bar"),
    ("y ~ (1 || )", ")", "nothing stands right of the bar"),
    ("y ~ x + 1 | g", "| g", "needs parentheses"),
    ("y ~ 1 || g", "|| g", "needs parentheses"),
    ("y ~ (1 | g", "(1", "never closed"),
    ("y ~ (1 + (1 | a) | g)", "(1 | a)", "inside another"),
    ("y ~ (1 | g | h)", "| h", "a second bar"),
    ("y ~ (0 | g)", "(0", "no effect is left"),
    ("y ~ (1 | a + b)", "+ b", "(1 | a) + (1 | b)"),
    ("y ~ (1 | a * b)", "* b", "(1 | a:b)"),
    ("y ~ (1 | a b)", "b)", "expected"),
    ("y ~ (1 | a/a)", "a)", "stands twice"),
    ("y ~ (1 | a/)", ")", "a grouping column is missing"),
    ("y ~ (1 | a:)", ")", "a grouping column is missing"),
    ("y ~ (1 | 1)", "1)", "not a number"),
    ("y ~ (1 | factor(g))", "factor", "taken as a factor already"),
    ("y ~ x:(1 | g)", "(1 | g)", "stands alone"),
    ("y ~ x - (1 | g)", "(1 | g)", "cannot be subtracted"),
    # calls
    ("y ~ logg(x)", "logg", "Did you mean 'log'?"),
    ("y ~ offset()", ")", "offset() is empty"),
    ("y ~ offset(2)", "2", "an offset needs a column"),
    ("y ~ x - offset(z)", "offset", "an offset cannot be subtracted"),
    ("y ~ x:offset(z)", "offset", "an offset stands alone"),
    ("y ~ x + (offset(z) | g)", "offset", "an offset belongs to the fixed part"),
    ("y ~ log(offset(z))", "offset", "an offset stands alone among the terms"),
    ("offset(y) ~ x", "offset", "an offset stands alone among the terms"),
    ("y ~ I(x + \uff12)", "\uff12", "write numbers with 0 to 9"),
    ("y ~ poly(x, degree=\uff11)", "\uff11", "write numbers with 0 to 9"),
    ("y ~ I(x ** \u0663)", "\u0663", "write numbers with 0 to 9"),
    ("y ~ factor(x)", "factor", "write C(x)"),
    ("y ~ as.factor(x)", "as", "write C(x)"),
    ("y ~ ns(x, 3)", "ns", "cr(x, df=5, constraints='center')"),
    ("y ~ log()", ")", "log() is empty"),
    ("y ~ log(2)", "2", "needs a column"),
    ("y ~ log(x, 2)", ", 2", "too many arguments"),
    ("y ~ log(poly(x, 2))", "poly", "several columns"),
    ("y ~ C(x + z)", "x + z", "C() takes one column"),
    ("y ~ C(x, contr.tretment)", "contr", "contrasts are one of"),
    ("y ~ import os", "os", "after the column 'import' (a formula runs no code)"),
    ("y ~ poly(x, degre=2)", "degre", "Did you mean 'degree'?"),
    ("y ~ poly(x, degree=2, degree=3)", "degree=3", "given twice"),
    ("y ~ poly(x, 2.5)", "2.5", "whole number"),
    ("y ~ bs(x, df=99999999)", "99999999", "whole number"),
    ("y ~ scale(x, center=2)", "2", "True or False"),
    ("y ~ I(9**9)", "9**9", "needs a column at its base"),
    ("y ~ I(x**999)", "999", "above 100"),
    ("y ~ I(x**2**2)", "**2)", "needs parentheses"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "under", "message"), MALFORMED)
def test_a_malformed_formula_is_shown_with_a_caret_under_the_culprit(text, under, message):
    with pytest.raises(DescriptionError, match=re.escape(message)) as caught:
        parse(text)
    _, shown, caret = str(caught.value).rsplit("\n", 2)
    assert shown == f"    {text}"
    assert caret.strip() == "^"
    if under is not None:
        place = shown[len(caret) - 1 :]
        assert place.startswith(under) if under else place == ""


# --- code in a formula is refused, and nothing is run

CODE = [
    "__import__('os').system('touch {0}')",
    "os.system('touch {0}')",
    "x.__class__",
    "log(x.__class__)",
    "log(__import__('pathlib').Path('{0}').touch())",
    "x.map(print)",
    "x[0]",
    "log(x)[0]",
    "{{open('{0}', 'w')}}",
    "{{x.sum()}}",
    "I(open('{0}', 'w'))",
    "I(x if x else x)",
    "I(lambda: x)",
    "lambda x: x",
    "eval('1')",
    "getattr(x, 'sum')",
    "np.log(x)",
    "hashed(x, 3)",
    "lag(x)",
    "Q('x')",
    'C(x, contr.treatment(\'a)) + __import__("os") + C(x, foo("\'))',
    'C(x, contr.treatment("a\\"))',
    "C(x, contr.custom([[1]]))",
    "C(x, {{'a': [1]}})",
    "C(x, contr.treatment(base=open('{0}', 'w')))",
    "`__import__`",
    "log(`x`; y)",
    "log(x := 3)",
    "log(*x)",
    "bs(x, knots=[z])",
    "bs(x, knots=open)",
    "poly(x, degree=z)",
    "@x",
    "x; import os",
    "x # comment",
    "f'{{x}}'",
]


@pytest.mark.parametrize("place", ["y ~ {} + (1 | g)", "y ~ 1 + ({} | g)", "y ~ 1 + (1 | {})", "{} ~ 1 + (1 | g)"])
@pytest.mark.parametrize("code", CODE)
def test_code_in_a_formula_is_refused_and_not_run(code, place, tmp_path):
    witness = tmp_path / "was-run"
    with pytest.raises(DescriptionError, match=r"\^"):
        parse(place.format(code.format(witness)))
    assert not witness.exists()


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_never_a_crash(text):
    for read in (parse, normal_form, normal_response, columns_of, group_columns):
        with contextlib.suppress(DescriptionError):
            read(text)


WORDS = """y x g ~ + - * / : ( ) | || ** ^ 1 0 2 log( C( , = [ ] { } . ` ' " `a b` __x__ lambda"""
pieces = st.sampled_from(re.split(" +", WORDS))


@given(st.lists(pieces, max_size=15).map(" ".join))
@settings(max_examples=500, deadline=None)
def test_what_is_accepted_has_only_words_of_the_allow_list(text):
    try:
        parts = parse("y ~ " + text)
    except DescriptionError:
        return
    for written in (parts.fixed, *(term.effects for term in parts.terms)):
        words = set(re.findall(r"[^\W\d]\w*", re.sub(r"`[^`]*`", "", written)))
        assert words <= {"y", "x", "g", "a", "b", "lambda", *OPTIONS}
        assert not set(written) & set(".;{}\\@")


def test_a_formula_is_a_text_of_reasonable_length():
    with pytest.raises(DescriptionError, match="more than 50 columns are in one grouping"):
        parse("y ~ (1 | " + "/".join(f"g{k}" for k in range(2000)) + ")")
    with pytest.raises(DescriptionError, match="got int 3"):
        parse(3)
    with pytest.raises(DescriptionError, match="characters"):
        parse("y ~ " + "x + " * 10_000 + "x")


def test_every_allowed_call_is_evaluated_by_formulaic():
    import numpy as np
    import pandas as pd
    from formulaic import model_matrix

    from bayeslmm.formula.transforms import transforms

    data = pd.DataFrame({"x": np.linspace(1, 2, 12), "my g": list("abcabcabcabc")})
    texts = [
        "log(x)",
        "log10(x)",
        "log2(x)",
        "exp(x)",
        "sqrt(x)",
        "abs(x)",
        "I(x**2)",
        "center(x)",
        "scale(x)",
    ]
    texts += [
        "poly(x, 2)",
        "bs(x, df=4)",
        "cr(x, df=3)",
        "cs(x, df=3)",
        "cc(x, df=3)",
        "C(`my g`, contr.sum)",
    ]
    texts += [
        "C(`my g`, contr.treatment('b'))",
        "C(`my g`, levels=['c', 'b', 'a'])",
        "bs(x, knots=[1.2, 1.5])",
    ]
    texts += [
        "C(`my g`, contr.helmert)",
        "C(`my g`, contr.SAS)",
        "C(`my g`, contr.diff)",
        "C(`my g`, contr.poly)",
    ]
    texts += ["C(`my g`, Treatment('b'))", "C(`my g`, Sum)", "scale(log(x), center=False)", "`my g`:x"]
    for text in texts:
        assert np.isfinite(np.asarray(model_matrix(normal_form(text), data, context=transforms()), dtype=float)).all()
