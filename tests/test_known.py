"""Known matrices: however they are given, their root is that of the covariance; what is wrong is said."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.io import mmwrite

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.description.hierarchy import Hierarchy, Level
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.lmm import LMM

LABELS = ["a", "b", "c"]
K = np.array([[1.0, 0.5, -0.2], [0.5, 2.0, 0.0], [-0.2, 0.0, 1.5]])


def refused(make, *said, kind=DescriptionError):
    """Expect an error that says all this."""
    with pytest.raises(kind) as caught:
        make()
    for text in said:
        assert text in str(caught.value)


def frame(matrix=K, labels=LABELS):
    return pd.DataFrame(matrix, index=labels, columns=labels)


# --- the root


@st.composite
def positive_definite(draw):
    """Draw (labels, K, an order of the labels); K with entries of both signs, of scales from 1e-3 to 1e3."""
    m = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    A = rng.normal(size=(m, m)) * 10.0 ** rng.uniform(-1.5, 1.5, size=(m, 1))
    labels = [f"g{k}" for k in range(m)]
    return labels, A @ A.T + 0.1 * np.diag(np.diag(A @ A.T)), draw(st.permutations(labels))


@given(positive_definite(), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_root_squared_is_the_covariance_in_any_order(made, precision, is_sparse):
    labels, covariance, order = made
    matrix = np.linalg.inv(covariance) if precision else covariance
    matrix = (matrix + matrix.T) / 2
    known = KnownMatrix(labels=labels, matrix=sparse.csc_array(matrix) if is_sparse else matrix, precision=precision)
    assert known.sparse == is_sparse
    L = known.root(order)
    at = [labels.index(label) for label in order]
    assert np.array_equal(L, np.tril(L))
    error = L @ L.T - covariance[np.ix_(at, at)]
    condition = np.linalg.cond(covariance) if precision else 1.0
    assert abs(error).max() < 1e-14 * len(labels) * condition * abs(covariance).max()


def test_a_part_of_the_labels_has_its_part_of_the_covariance():
    """The part of a precision is another thing: leaving labels out of it would condition on them."""
    for known in (KnownMatrix.of(frame()), KnownMatrix.of(frame(np.linalg.inv(K)), precision=True)):
        L = known.root(["c", "a"])
        np.testing.assert_allclose(L @ L.T, K[np.ix_([2, 0], [2, 0])], atol=1e-14)
    refused(lambda: KnownMatrix.of(frame()).root(["a", "B"]), "has no label 'B'", "Did you mean 'b'?")


# --- ways to give one


def test_the_same_matrix_in_every_form(tmp_path):
    known = KnownMatrix.of(frame())
    frame().to_csv(tmp_path / "K.csv")
    (tmp_path / "K.csv.gz").write_bytes(gzip.compress((tmp_path / "K.csv").read_bytes()))
    mmwrite(tmp_path / "K.mtx", sparse.csc_array(K), symmetry="symmetric")
    (tmp_path / "K.mtx.gz").write_bytes(gzip.compress((tmp_path / "K.mtx").read_bytes()))
    mmwrite(tmp_path / "dense.mtx", K)
    (tmp_path / "labels.txt").write_text("a\nb\n\nc \n")
    assert known == KnownMatrix(labels=LABELS, matrix=K) == KnownMatrix.of({"labels": LABELS, "matrix": K.tolist()})
    for name in ("K.csv", "K.csv.gz"):
        assert KnownMatrix.of(name, folder=tmp_path) == KnownMatrix.of(tmp_path / name) == known
    for name in ("K.mtx", "K.mtx.gz", "dense.mtx"):
        given = {"file": name, "labels": "labels.txt"}
        read = KnownMatrix.of(given, folder=tmp_path)
        assert read == known
        assert read.sparse == (name != "dense.mtx")
        assert read.to_dict() == given
    assert KnownMatrix.of(known) is known
    assert KnownMatrix.of("K.csv", folder=tmp_path).to_dict() == "K.csv"


def test_labels_are_texts_as_those_of_the_groups_are():
    numbers = frame(labels=[3.0, 10.0, 2.0])
    assert KnownMatrix.of(numbers).labels == ("3", "10", "2")
    assert KnownMatrix.of(frame(labels=["01", "1", "x y"])).labels == ("01", "1", "x y")
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])
    assert KnownMatrix.of(pd.DataFrame(K, index=pairs, columns=pairs)).labels == ("a:1", "a:2", "b:1")


def test_it_compares_and_hashes_by_content():
    assert hash(KnownMatrix.of(frame())) == hash(KnownMatrix.of(frame()))
    others = [
        KnownMatrix.of(frame(2 * K)),
        KnownMatrix.of(frame(labels=["a", "c", "b"])),
        KnownMatrix.of(frame(), precision=True),
        KnownMatrix.of(frame(K[:2, :2], LABELS[:2])),
    ]
    assert all(KnownMatrix.of(frame()) != other for other in others)
    assert KnownMatrix.of(frame()) != K.tolist()
    assert repr(KnownMatrix.of(frame())) == "KnownMatrix(covariance of 3 labels)"


def test_what_rounding_leaves_of_symmetry_is_averaged():
    rough = K.copy()
    rough[0, 1] += 1e-9
    made = KnownMatrix(labels=LABELS, matrix=rough)
    assert np.array_equal(made.matrix, made.matrix.T)
    assert made.matrix[0, 1] == pytest.approx(0.5 + 5e-10, abs=1e-15)


# --- what is wrong with a matrix


def changed(i, j, value):
    A = K.copy()
    A[i, j] = value
    return A


WRONG = {
    "not symmetric": (
        frame(changed(2, 0, 0.3)),
        ["not symmetric", "largest asymmetry is 0.5", "('a', 'c') = -0.2", "('c', 'a') = 0.3"],
    ),
    "missing": (frame(changed(0, 0, np.nan)), ["1 entry missing or infinite"]),
    "infinite": (frame(changed(0, 0, np.inf)), ["1 entry missing or infinite"]),
    "labels in another order": (
        pd.DataFrame(K, index=LABELS, columns=["b", "a", "c"]),
        ["'a', 'b', 'c'", "'b', 'a', 'c'", "K.loc[labels, labels]"],
    ),
    "no labels": (pd.DataFrame(K, index=LABELS), ["rows are labelled 'a'", "columns '0'"]),
    "the same label twice": (frame(labels=["a", "b", "a"]), ["label 'a' twice"]),
    "not square": ({"labels": LABELS, "matrix": K[:2]}, ["shape (2, 3)", "square"]),
    "ragged": ({"labels": LABELS, "matrix": [[1.0], [0.5, 1.0]]}, ["no table of real numbers"]),
    "too few labels": ({"labels": ["a"], "matrix": K}, ["3 rows but 1 labels"]),
    "empty": ({"labels": [], "matrix": np.zeros((0, 0))}, ["no labels"]),
    "a vector": ({"labels": LABELS, "matrix": [1, 2, 3]}, ["shape (3,)"]),
    "texts": (frame(np.full((3, 3), "x")), ["no table of real numbers"]),
    "complex": ({"labels": LABELS, "matrix": K + 0j}, ["no table of real numbers"]),
    "an array without labels": (K, ["labels as its index", "ndarray", "can't be matched"]),
    "a sparse array without labels": (sparse.csc_array(K), ["can't be matched"]),
    "other keys": ({"labels": LABELS, "values": K}, ["{file, labels}", "{labels, matrix}", "labels, values"]),
    "labels that are no list": ({"labels": "abc", "matrix": K}, ["a list and the rows"]),
    "another kind of file": ("K.xlsx", ["K.xlsx", ".csv, .csv.gz, .mtx, .mtx.gz or .npz"]),
    "Matrix Market without labels": ("K.mtx", ["has no labels", '{file = "K.mtx", labels = "labels.txt"}']),
    "CSV with labels twice": ({"file": "K.csv", "labels": "K.txt"}, ["first line and first column", "leave labels"]),
}


ARGUMENTS = {
    "labels that are a number": ({"labels": 3, "matrix": K}, ["labels=3", "a list of them, one per row"]),
    "labels that are a text": ({"labels": "abc", "matrix": K}, ["labels='abc'", "a list of them"]),
    "labels beside others": (
        {"labels": LABELS, "matrix": frame(labels=["b", "a", "c"])},
        ["rows labelled 'b', 'a', 'c' but labels= says 'a', 'b', 'c'", "KnownMatrix.of(K)", "K.to_numpy()"],
    ),
    "a precision that is no truth": (
        {"labels": LABELS, "matrix": K, "precision": "x"},
        ["precision='x'; expected True or False"],
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments_are_said(name):
    given, said = ARGUMENTS[name]
    refused(lambda: KnownMatrix(**given), *said)


def test_labels_may_stand_beside_a_table_that_has_the_same_or_none():
    plain = KnownMatrix(labels=LABELS, matrix=K)
    assert plain == KnownMatrix(labels=LABELS, matrix=frame()) == KnownMatrix(labels=LABELS, matrix=pd.DataFrame(K))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    given, said = WRONG[name]
    refused(lambda: KnownMatrix.of(given), *said)


def test_the_same_of_sparse_ones():
    for A, said in ((changed(2, 0, 0.3), "('a', 'c') = -0.2"), (changed(0, 2, np.nan), "1 entry missing")):
        refused(lambda A=A: KnownMatrix(labels=LABELS, matrix=sparse.coo_array(A)), said)


@pytest.mark.parametrize(
    ("matrix", "smallest"),
    [([[1.0, 2.0], [2.0, 1.0]], "-1"), ([[1.0, 1.0], [1.0, 1.0]], "0"), ([[0.0, 0.0], [0.0, 1.0]], "0")],
)
@pytest.mark.parametrize("precision", [False, True])
def test_one_that_is_not_positive_definite_is_refused_with_its_smallest_eigenvalue(matrix, smallest, precision):
    known = KnownMatrix(labels=["a", "b"], matrix=matrix, precision=precision)
    kind = "precision" if precision else "covariance"
    refused(lambda: known.root(["b", "a"]), f"the {kind} is not positive definite", f"eigenvalue is {smallest}")


def test_twins_are_singular_even_where_rounding_hides_it():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(12, 8))[[*range(11), 0]]  # the twelfth is the first one's twin
    twins = A @ A.T + 1e-3 * np.diag([1.0] * 11 + [0.0])
    twins[11] = twins[0]
    twins[:, 11] = twins[:, 0]
    known = KnownMatrix(labels=list("abcdefghijkl"), matrix=twins)
    refused(lambda: known.root(known.labels), "not positive definite", "Identical individuals")


def test_a_file_is_named_where_it_is_wrong(tmp_path):
    def read(content, name="K.csv"):
        (tmp_path / name).write_text(content)
        return lambda: KnownMatrix.of(name, folder=tmp_path)

    refused(read(",a,b\na,1,0.5\n\nb,0.5,x\n"), "K.csv, line 4", "label 'b'", "'x'")
    refused(read(",a,b\na,1,\nb,0.5,1\n"), "K.csv, line 2", "''")
    refused(read(",a,b\na,1,0.5\nb,0.5\n"), "K.csv, line 3: 1 numbers for 2 labels")
    refused(read(",a,b\na,1,0.5\nc,0.5,1\n"), "first column has the labels 'a', 'c'", "first line 'a', 'b'")
    refused(read(",a,b\n"), "expected a line of labels")
    refused(read(",a,b\na,1,0.4\nb,0.5,1\n"), "the covariance in K.csv is not symmetric")
    refused(read(",a,b\na,1,nan\nb,nan,1\n"), "the covariance in K.csv has 2 entries missing")
    refused(lambda: KnownMatrix.of("k.csv", folder=tmp_path), "there is no file", "Did you mean 'K.csv'?")
    refused(lambda: KnownMatrix.of("no/K.csv", folder=tmp_path), "there is no folder")
    (tmp_path / "latin.csv").write_bytes(",ä\nä,1\n".encode("latin-1"))
    refused(lambda: KnownMatrix.of("latin.csv", folder=tmp_path), "save it as UTF-8")
    (tmp_path / "K.csv.gz").write_bytes(b"no gzip")
    refused(lambda: KnownMatrix.of("K.csv.gz", folder=tmp_path), "K.csv.gz: cannot be read")


def test_a_matrix_market_file_is_named_too(tmp_path):
    (tmp_path / "K.mtx").write_text("no matrix")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    given = {"file": "K.mtx", "labels": "labels.txt"}
    refused(lambda: KnownMatrix.of(given, folder=tmp_path), "K.mtx: not readable as Matrix Market")
    mmwrite(tmp_path / "K.mtx", K)
    refused(lambda: KnownMatrix.of(given, folder=tmp_path), "the covariance in K.mtx has 3 rows but 2 labels")
    refused(lambda: KnownMatrix.of(given | {"labels": "label.txt"}, folder=tmp_path), "mean 'labels.txt'?")


# --- what is wrong with a level


def test_a_level_has_a_covariance_or_a_precision():
    both = {"covariance": frame(), "precision": frame()}
    refused(lambda: Level(group="g", **both), "a covariance and a precision", "write one of them")
    refused(lambda: Level(group="g", known=True), "known but has no covariance", "covariance=K")
    refused(lambda: Level(group="g", covariance=frame(), known="yes"), "known is True or False")
    refused(lambda: Level(group="g", precision=KnownMatrix.of(frame())), "where a precision is expected")


@pytest.mark.parametrize("kind", ["covariance", "precision"])
def test_beside_a_formula_a_matrix_is_given_by_grouping_or_level(kind):
    h = Hierarchy.from_formula("y ~ (1 | animal) + (1 | year)", **{kind: {"animal": frame()}})
    assert h == Hierarchy.from_formula("y ~ (1 | animal) + (1 | year)", **{kind: {"u2": frame()}})
    assert (h.levels[0].matrix, h.levels[1].matrix) == (KnownMatrix.of(frame(), precision=kind == "precision"), None)
    assert f"u2: 1 | animal, known {kind}" in str(h)
    formula = "y ~ (1 | animal) + (0 + x | animal)"
    refused(lambda: Hierarchy.from_formula(formula, **{kind: {"animal": frame()}}), "u2 and u3 have this grouping")
    refused(lambda: Hierarchy.from_formula(formula, **{kind: {"animals": frame()}}), "Did you mean 'animal'?")
    refused(lambda: Hierarchy.from_formula(formula, **{kind: frame()}), "'animal': K}", "DataFrame itself")


def test_the_same_groups_may_vary_by_kinship_and_on_their_own():
    """The animal model with a permanent environment: one grouping twice, once with its relatives."""
    h = Hierarchy(response="y", levels=(Level(group="g", covariance=frame()), Level(group="g")))
    assert [level.matrix is None for level in h.levels] == [False, True]
    twice = (Level(group="g", covariance=frame()), Level(group="g", covariance=frame()))
    refused(lambda: Hierarchy(response="y", levels=twice), "varies twice")


def test_a_grouping_that_varies_twice_has_two_names_in_tables():
    """As lme4 names a grouping's second term; effects of different names need no second name for their grouping."""
    data = {"y": [1.0, 2, 4, 3, 5, 3, 1, 2], "x": [0.0, 1, 2, 3, 5, 1, 2, 3], "g": list("abcabcab")}
    fit = LMM(Hierarchy(response="y", levels=(Level(group="g", covariance=frame()), Level(group="g"))), data).ml()
    assert fit.varcorr["group"].tolist() == ["g", "g.1", "Residual"]
    assert fit.theta.index.tolist() == ["g.Intercept", "g.1.Intercept"]
    assert fit.b.index.is_unique
    apart = LMM("y ~ 1 + (1 | g) + (0 + x | g)", data).ml()
    assert apart.varcorr["group"].tolist() == ["g", "g", "Residual"]


# --- what is wrong between the matrix and the data

DATA = {"y": [1.0, 2.0, 4.0, 3.0, 5.0], "x": [0.0, 1.0, 2.0, 3.0, 5.0], "g": list("abcab")}


def test_every_group_of_the_data_has_its_label():
    data = DATA | {"g": list("abdad")}
    refused(
        lambda: LMM("y ~ 1 + (1 | g)", data, covariance={"g": frame()}), "has no 'd'", "'a', 'b', 'c'", kind=DataError
    )


def test_labels_that_have_no_rows_are_relatives():
    level = LMM("y ~ 1 + (1 | g)", DATA | {"g": list("cacac")}, covariance={"g": frame()}).design.levels[0]
    assert (level.groups, level.relatives) == (("a", "c", "b"), 1)
    np.testing.assert_allclose(level.root @ level.root.T, K[np.ix_([0, 2, 1], [0, 2, 1])], atol=1e-15)


def test_numbers_in_the_data_match_numbers_in_the_matrix():
    data = DATA | {"g": [1.0, 2.0, 3.0, 1.0, 2.0]}
    level = LMM("y ~ 1 + (1 | g)", data, covariance={"g": frame(labels=[1, 2, 3])}).design.levels[0]
    assert level.groups == ("1", "2", "3")


def test_a_level_known_entirely_has_one_effect():
    level = Level(group="g", effects="1 + x", covariance=frame(), known=True)
    refused(
        lambda: LMM(Hierarchy(response="y", levels=level), DATA), "2 effects", "one level per effect", kind=DataError
    )


def test_a_matrix_that_is_not_positive_definite_is_refused_before_anything_is_fitted():
    bad = frame(changed(0, 0, 0.0))
    refused(lambda: LMM("y ~ 1 + (1 | g)", DATA, covariance={"g": bad}), "smallest eigenvalue is -0.")
