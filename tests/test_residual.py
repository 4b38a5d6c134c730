"""R of the rows: each structure is what its definition says, and its inverse, determinant and root are R's."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.lmm import LMM


def refused(make, *said, kind=DataError):
    """Expect an error that says all this."""
    with pytest.raises(kind) as caught:
        make()
    for text in said:
        assert text in str(caught.value)


# --- R by its definition, entry by entry


def literal(residual, frame, rho, sds):
    """R[i, j] as the documentation has it: SDs, weights and the correlation of rows i and j."""
    n = len(frame)
    R = np.zeros((n, n))
    groups = [tuple(row) for row in frame[list(residual.group)].to_numpy()] if residual.group else [()] * n
    seen = {}
    for i in range(n):
        seen[i] = sum(groups[k] == groups[i] for k in range(i))  # the rows of the group before this one
    time = frame[residual.time].tolist() if residual.time else [seen[i] for i in range(n)]
    # one step is the largest number that divides all differences within groups
    apart = (
        [0]
        if residual.structure == "car1"
        else [time[i] - time[j] for i in range(n) for j in range(n) if groups[i] == groups[j]]
    )
    step = max(int(np.gcd.reduce(np.array(apart, dtype=int))), 1)
    strata = sorted(set(frame[residual.by])) if residual.by else []
    sd = [dict(zip(strata, sds, strict=True))[s] for s in frame[residual.by]] if residual.by else [1.0] * n
    weight = frame[residual.weights].tolist() if residual.weights else [1.0] * n
    for i in range(n):
        for j in range(n):
            if i == j:
                correlation = 1.0
            elif residual.structure == "ar1" and groups[i] == groups[j]:
                correlation = rho ** (abs(time[i] - time[j]) // step)
            elif residual.structure == "car1" and groups[i] == groups[j]:
                correlation = rho ** (abs(time[i] - time[j]) / median_gap(groups, time))
            elif residual.structure == "cs" and groups[i] == groups[j]:
                correlation = rho
            else:
                correlation = 0.0
            if residual.structure == "known":
                labels = [":".join(key) for key in groups] if residual.group else list(map(str, frame.index))
                at = residual.covariance.labels.index
                correlation = residual.covariance.matrix[at(labels[i]), at(labels[j])]
            R[i, j] = correlation * sd[i] * sd[j] / np.sqrt(weight[i] * weight[j])
    return R


def median_gap(groups, time):
    """The median of the times between neighbours of a group."""
    series = [sorted(t for g, t in zip(groups, time, strict=True) if g == group) for group in dict.fromkeys(groups)]
    return np.median(np.concatenate([np.diff(one) for one in series]))


@st.composite
def tables(draw):
    """Draw rows in any order: groups of 1 to 6 rows, times with gaps, strata that cross the groups, weights."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=5))
    sizes[0] = max(sizes[0], 2)
    sizes += [3] * (sum(sizes) < 6)
    n = sum(sizes)
    rows = pd.DataFrame(
        {
            "g": np.repeat([f"g{k}" for k in range(len(sizes))], sizes),
            "h": rng.choice(["x", "y"], n),
            "t": np.concatenate([np.sort(rng.choice(12, m, replace=False)) - 3 for m in sizes]),
            "s": rng.permutation(np.resize(draw(st.sampled_from([["F", "M"], ["a", "b", "c"]])), n)),
            "w": 10.0 ** rng.uniform(-2, 2, n),
            "id": [f"r{k}" for k in range(n)],
        }
    )
    rows["real"] = rows["t"] + np.round(rng.uniform(0, 0.9, n), 2)
    return rows.sample(frac=1, random_state=int(rng.integers(1000)), ignore_index=True)


STRUCTURES = {
    "iid": {},
    "strata": {"by": "s"},
    "ar1 by order": {"group": "g"},
    "ar1 by time": {"group": "g", "time": "t"},
    "ar1 of the table": {},
    "ar1 in strata": {"group": "g", "time": "t", "by": "s"},
    "ar1 of two columns": {"group": ("g", "h")},
    "car1": {"group": "g", "time": "real"},
    "car1 in strata": {"group": "g", "time": "real", "by": "s"},
    "cs": {"group": "g"},
    "cs in strata": {"group": "g", "by": "s"},
    "cs of two columns": {"group": "g:h"},
}


def some_psi(made, rng):
    """Parameters where R is positive definite, from near one bound of rho to near the other."""
    out = []
    for p in made.parameters:
        if p.name == "rho":
            out.append(p.lower + (p.upper - p.lower) * rng.uniform(0.03, 0.97))
        else:
            out.append(np.exp(rng.normal()))
    return out


def agrees(made, R, psi):
    """The four views of R are one: its entries, the sum that is its inverse, its determinant, its root."""
    np.testing.assert_allclose(made.R(psi).toarray(), R, rtol=1e-13, atol=1e-15)
    inverse = np.linalg.inv(R)
    total = sum(
        c * (term.left @ term.right).toarray() for c, term in zip(made.coefficients(psi), made.terms, strict=True)
    )
    assert abs(total - inverse).max() <= 1e-10 * abs(inverse).max()
    sign, logdet = np.linalg.slogdet(R)
    assert sign == 1
    assert made.log_det(psi) == pytest.approx(logdet, rel=1e-10, abs=1e-10)
    A = np.column_stack([made.color(z, psi) for z in np.eye(made.n)])
    np.testing.assert_allclose(A @ A.T, R, rtol=1e-12, atol=1e-13 * abs(R).max())


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("name", STRUCTURES)
@given(frame=tables(), seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_inverse_determinant_and_root_are_those_of_R(name, weights, frame, seed):
    residual = Residual(structure=name.split()[0], weights=weights, **STRUCTURES[name])
    if residual.group == ("g", "h") and frame.groupby(["g", "h"]).size().max() < 2:
        return
    made = build_residual(residual, frame)
    psi = some_psi(made, np.random.default_rng(seed))
    own, (_, *ratios) = made.split(psi)
    agrees(made, literal(residual, frame, *(own or [0.0]), [1.0, *ratios]), psi)


@given(frame=tables(), seed=st.integers(0, 10**6), by_index=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_known_R_is_matched_to_the_rows_by_label(frame, seed, by_index):
    """Blocks of rows in any order, some of its labels without rows."""
    rng = np.random.default_rng(seed)
    labels = [*frame["id"], "one more", "and another"]
    rng.shuffle(labels)
    A = rng.normal(size=(len(labels), len(labels))) * (rng.random((len(labels), 1)) < 0.5)
    R = A @ A.T + np.eye(len(labels))
    R[:3, 3:] = R[3:, :3] = 0.0
    matrix = pd.DataFrame(R, index=labels, columns=labels)
    residual = Residual(structure="known", covariance=matrix, group=None if by_index else "id")
    table = frame.set_index("id") if by_index else frame
    made = build_residual(residual, table)
    assert made.fixed
    agrees(made, matrix.loc[frame["id"], frame["id"]].to_numpy(), [])


@pytest.mark.parametrize("name", ["strata", "ar1 in strata", "cs in strata"])
@given(frame=tables())
@settings(max_examples=15, deadline=None)
def test_at_the_neutral_parameters_R_is_the_identity_over_the_weights(name, frame):
    made = build_residual(Residual(structure=name.split()[0], weights="w", **STRUCTURES[name]), frame)
    np.testing.assert_allclose(made.R(made.neutral).toarray(), np.diag(1 / frame["w"]), atol=1e-14)


@pytest.mark.parametrize("structure", ["ar1", "cs"])
def test_coefficients_and_determinant_take_arrays_of_parameters(structure):
    """As the sampler gives them: many points at once."""
    frame = pd.DataFrame({"g": list("aabbbab"), "s": list("FMFMFMF")})
    made = build_residual(Residual(structure=structure, group="g", by="s"), frame)
    psi = [np.array([-0.3, 0.0, 0.5]), np.array([0.5, 1.0, 3.0])]
    for k in range(3):
        point = [p[k] for p in psi]
        one = [np.broadcast_to(c, 3)[k] for c in made.coefficients(psi)]
        assert one == pytest.approx(made.coefficients(point), rel=1e-14, abs=1e-300)
        assert np.broadcast_to(made.log_det(psi), 3)[k] == pytest.approx(made.log_det(point), rel=1e-14)


# --- parameters: names, labels, and where R is positive definite


def test_parameters_are_rho_first_and_then_the_ratios():
    frame = pd.DataFrame({"g": list("aaabb"), "s": list("FMMFM")})
    made = build_residual(Residual(structure="ar1", group="g", by="s"), frame)
    assert [(p.name, p.label) for p in made.parameters] == [("rho", "rho"), ("sigma_ratio", "sigma_ratio[M]")]
    assert made.strata == ("F", "M")
    assert "s M over that of s F" in made.parameters[1].reason
    assert build_residual(Residual(weights="w"), pd.DataFrame({"w": [1.0, 2.0]})).parameters == ()


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2, 1), (5, 1)])
def test_compound_symmetry_may_be_negative_as_far_as_R_is_positive_definite(sizes):
    frame = pd.DataFrame({"g": np.repeat(np.arange(len(sizes)), sizes)})
    made = build_residual(Residual(structure="cs", group="g"), frame)
    (rho,) = made.parameters
    assert (rho.lower, rho.upper) == (pytest.approx(-1 / (max(sizes) - 1)), 1.0)
    smallest = [np.linalg.eigvalsh(made.R([r]).toarray())[0] for r in (0.999 * rho.lower, 1.001 * rho.lower)]
    assert smallest[0] > 0 > smallest[1]


# --- what is wrong with the description


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"structure": "ar2"}, ["no structure 'ar2'", "Did you mean 'ar1'?"]),
        ({"structure": 1}, ["no structure 1", "'cs': compound symmetry"]),
        ({"structure": ["ar1"]}, ["no structure ['ar1']"]),
        ({"structure": "strata"}, ["needs by='Sex'"]),
        ({"structure": "cs"}, ["needs group='Subject'"]),
        ({"structure": "car1", "group": "g"}, ["needs time='week'"]),
        ({"structure": "known"}, ["needs covariance=R"]),
        ({"by": "s"}, ["'iid' has no 'by'", "write structure='strata' or 'ar1' or 'car1' or 'cs'"]),
        ({"structure": "cs", "group": "g", "time": "t"}, ["'cs' has no 'time'", "write structure='ar1' or 'car1'"]),
        ({"structure": "known", "covariance": pd.DataFrame([[1.0]]), "weights": "w"}, ["'known' has no 'weights'"]),
        ({"weights": 2.0}, ["weights is a text such as the name of a column", "float"]),
        ({"structure": "ar1", "group": 3}, ["group is a text"]),
        ({"structure": "ar1", "group": "a/b"}, ["a level for each"]),
        ({"structure": "known", "covariance": np.eye(2)}, ["can't be matched"]),
    ],
)
def test_a_wrong_residual_is_refused(given, said):
    refused(lambda: Residual(**given), *said, kind=DescriptionError)


def test_from_a_dict_too():
    refused(lambda: Residual.from_dict({"weight": "w"}), "Did you mean 'weights'?", kind=DescriptionError)
    refused(lambda: Residual.from_dict("ar1"), "made from a mapping", kind=DescriptionError)


def test_without_levels_the_residual_has_a_structure():
    assert Hierarchy(response="y", residual=Residual(structure="cs", group="g")).levels == ()
    for residual in (Residual(), Residual(weights="w")):
        refused(
            lambda r=residual: Hierarchy(response="y", residual=r), "no level above the rows", kind=DescriptionError
        )


# --- what is wrong between the residual and the data

DATA = {
    "y": [1.0, 2.0, 4.0, 3.0, 5.0, 7.0], "g": list("aabbcc"), "s": list("FFFMMM"), "w": [1.0, 2.0, 1.0, 0.5, 1.0, 3.0],
    "t": [1, 2, 1, 3, 1, 2],
}  # fmt: skip


def build(data=None, **residual):
    return lambda: LMM("y ~ 1 + (1 | g)", DATA | (data or {}), residual=Residual(**residual))


def test_weights_are_positive_numbers():
    for w, rows in (([1, 0, 1, 1, -2.0, 1], "rows 1 and 4"), ([1, 1, 1, 1, 1, -1e-9], "row 5")):
        refused(build({"w": w}, weights="w"), "zero or negative in " + rows, "sigma^2 / w", "Leave out rows")
    refused(build({"w": [1.0, None, 1, 1, 1, 1]}, weights="w"), "1 missing value: 'w' 1 (row 1)")
    refused(build({"w": [1.0, np.inf, 1, 1, 1, 1]}, weights="w"), "'w'", "inf")
    refused(build({"w": list("abcdef")}, weights="w"), "The weights 'w' holds 'a'", "expected numbers")
    refused(build(weights="ww"), "no column 'ww'", "Did you mean 'w'?")
    refused(build(weights="y"), "'y' stands in the residual too", kind=DescriptionError)


def test_strata_have_two_rows_or_more():
    refused(build({"s": list("FFFMMX")}, structure="strata", by="s"), "stratum 'X' of 's' has one row", "together")
    refused(build({"s": list("FFFFFF")}, structure="strata", by="s"), "one value only ('F')", "Leave it out")
    refused(build({"s": ["F", "F", None, "M", "M", "M"]}, structure="strata", by="s"), "1 missing value: 's'")
    refused(build(structure="strata", by="S"), "no column 'S'", "Did you mean 's'?")


def test_times_are_in_equal_steps_once_per_group():
    ar1 = {"structure": "ar1", "group": "g", "time": "t"}
    refused(build({"t": [1, 1, 1, 3, 2, 2]}, **ar1), "occurs twice in rows of the same g", "rows 0, 1, 4 and 5")
    refused(build({"t": [1, 2.4137, 1, 3, 1, 2]}, **ar1), "isn't in equal steps", "round((t - t.min()) / step)")
    refused(build({"t": [1, 1 + 1e-15, 1, 3, 1, 2]}, **ar1), "occurs twice in rows of the same g", "rows 0 and 1")
    refused(build(structure="ar1", time="t"), "occurs twice", "Name the series with group=")
    dates = pd.to_datetime(["2024-01-01", "2024-01-02"] * 3)
    refused(build({"t": dates}, **ar1), "The time 't' holds dates", "days since the first date")
    refused(build({"t": list("121212")}, **ar1), "text that looks like numbers", "pd.to_numeric")
    refused(build({"t": [1, None, 1, 3, 1, 2]}, **ar1), "1 missing value: 't'")
    refused(build({"t": [1, 1e300, 1, 3, 1, 2]}, **ar1), "'t'", "row 1", "too large")


MONTHS = np.array([3, 0, 1, 2, 7, 5, 12, 13, 36, 240])


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (2000 + MONTHS / 12, 1 / 12),
        (np.round(2000 + MONTHS / 12, 4), 1 / 12),
        ((2000 + MONTHS / 12).astype(np.float32), 1 / 12),
        (0.1 * MONTHS, 0.1),
        (1e-9 * MONTHS, 1e-9),
        (0.5 + MONTHS, 1),
        (7 * MONTHS, 7),
        (MONTHS / 52.1775 - 3, 1 / 52.1775),
        (MONTHS * np.pi * 1e8, np.pi * 1e8),
    ],
)
def test_times_count_steps_up_to_rounding(times, step):
    frame = pd.DataFrame({"t": times, "g": 1})
    made = build_residual(Residual(structure="ar1", group="g", time="t"), frame)
    assert made.structure.place.tolist() == MONTHS.tolist()
    assert made.structure.step == pytest.approx(step, rel=1e-4)
    whole = build_residual(Residual(structure="ar1", group="g", time="t"), frame.assign(t=MONTHS))
    assert (whole.structure.place == made.structure.place).all()


def test_a_step_may_be_less_than_any_gap():
    """Euclid's algorithm: gaps of 2 and 3 steps; and whole numbers are exact, however uneven they look."""
    frame = pd.DataFrame({"t": 0.1 * np.array([0, 2, 5, 9, 12]), "g": 1})
    made = build_residual(Residual(structure="ar1", group="g", time="t"), frame)
    assert made.structure.place.tolist() == [0, 2, 5, 9, 12]
    made = build_residual(Residual(structure="ar1", group="g", time="t"), frame.assign(t=[0, 1000, 2001, 3001, 4001]))
    assert (made.structure.place.tolist(), made.structure.step) == ([0, 1000, 2001, 3001, 4001], 1)


@pytest.mark.parametrize("structure", ["ar1", "cs"])
def test_a_correlation_needs_groups_of_several_rows(structure):
    alone = {"k": list("uvwxyz")}
    refused(build(alone, structure=structure, group="k"), "groups of k have one row each", "Group by less")
    refused(build(structure=structure, group="G"), "no column 'G'", "Did you mean 'g'?")


def kinship(labels, values=None):
    return pd.DataFrame(np.eye(len(labels)) if values is None else values, index=labels, columns=labels)


def test_a_known_R_has_one_label_per_row():
    known = {"structure": "known", "covariance": kinship(list("abcdef"))}
    ids = {"id": list("abcdef")}
    refused(build(group="g", **known), "'a' of g stands for several rows", "one label per row")
    refused(build({"id": list("abcdeg")}, group="id", **known), "has no 'g', which id has", "'a', 'b', 'c'")
    refused(build(**known), "has no '0'", "the data's index has", "group=...")
    refused(build(ids, group="ID", **known), "no column 'ID'", "Did you mean 'id'?")


def test_a_known_R_is_positive_definite():
    values = np.eye(6)
    values[0, 1] = values[1, 0] = 2.0
    known = {"structure": "known", "covariance": kinship(list("abcdef"), values), "group": "id"}
    said = ["of the residual is not positive definite", "its smallest eigenvalue is -1;"]
    refused(build({"id": list("abcdef")}, **known), *said, kind=DescriptionError)
    values[0, 1] = values[1, 0] = 1.0
    twins = {"structure": "known", "covariance": kinship(list("abcdef"), values), "group": "id"}
    refused(build({"id": list("abcdef")}, **twins), "its smallest eigenvalue is", kind=DescriptionError)


def test_what_a_part_without_such_rows_leaves_out_is_no_harm():
    """Only the rows of the data count: the rest of a known R is not looked at."""
    values = np.eye(7)
    values[6, 6] = 0.0
    known = Residual(structure="known", covariance=kinship(list("abcdefz"), values), group="id")
    made = build_residual(known, pd.DataFrame({"id": list("fedcba")}))
    np.testing.assert_array_equal(made.R([]).toarray(), np.eye(6))


def test_a_level_and_a_residual_may_share_their_groups():
    h = Hierarchy(response="y", levels=Level(group="g"), residual=Residual(structure="ar1", group="g", time="t"))
    assert [p.name for p in LMM(h, DATA).design.residual.own] == ["rho"]
    assert str(h).splitlines()[-1] == "  e: ar1 (group='g', time='t')"
