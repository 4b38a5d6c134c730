"""Description files: what they may say, how errors name the file and the line, and the gallery of models."""

import gzip
import json
from pathlib import Path

import pytest

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
from bayeslmm.description.model_file import ModelFile
from bayeslmm.description.schema import json_schema
from bayeslmm.description.toml_text import key_lines
from bayeslmm.distributions.prior import Prior
from bayeslmm.errors import DataError, DescriptionError, PriorError

MODELS = Path(__file__).parent.parent / "models"
GALLERY = sorted(MODELS.glob("*.toml"))
FORMULA = 'formula = "y ~ 1 + (1 | g)"\n'
EXPLICIT = 'response = "y"\n[[levels]]\ngroup = "g"\n'


# --- what a file says


def test_a_file_may_say_everything(tmp_path):
    (tmp_path / "model.toml").write_text(
        'title = "T"\nsource = "S"\nnotes = "N"\ndata = "sub/d.csv"\nmissing = "drop"\n'
        'formula = "y ~ x + (x | g)"\n[priors]\nsigma = "HalfNormal(sigma=2)"\n'
        '[priors.sigma_u2]\nIntercept = "HalfNormal(sigma=1)"\nx = "HalfNormal(sigma=0.5)"\n'
    )
    model = ModelFile.read(tmp_path / "model.toml")
    assert (model.title, model.source, model.notes, model.missing) == ("T", "S", "N", "drop")
    assert model.data == tmp_path / "sub" / "d.csv"
    assert model.hierarchy == Hierarchy.from_formula("y ~ x + (x | g)")
    assert model.priors == {
        "sigma": Prior("HalfNormal", sigma=2),
        "sigma_u2": {"Intercept": Prior("HalfNormal", sigma=1), "x": Prior("HalfNormal", sigma=0.5)},
    }


def test_levels_may_be_written_out():
    model = ModelFile.parse(
        'response = "y"\nfixed = "x"\n[[levels]]\ngroup = "class:school"\neffects = "x"\ncorrelated = false\n'
        '[[levels]]\ngroup = ["school"]\n'
    )
    first = Level(group="class:school", effects="x", correlated=False)
    assert model.hierarchy == Hierarchy(response="y", fixed="x", levels=(first, Level(group="school")))


KINSHIP = ",a,b\na,1,0.5\nb,0.5,1\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with one kinship in every form."""
    (tmp_path / "K.csv").write_text(KINSHIP)
    (tmp_path / "K.mtx").write_text("%%MatrixMarket matrix coordinate real symmetric\n2 2 3\n1 1 1\n2 1 0.5\n2 2 1\n")
    (tmp_path / "K.txt").write_text("a\nb\n")
    return tmp_path


K = KnownMatrix(labels=["a", "b"], matrix=[[1, 0.5], [0.5, 1]])
WAYS = ['"K.csv"', '{file = "K.mtx", labels = "K.txt"}', '{labels = ["a", "b"], matrix = [[1, 0.5], [0.5, 1.0]]}']


@pytest.mark.parametrize("way", WAYS)
def test_a_known_matrix_is_a_path_or_written_out(way, folder):
    """In a level, or beside a formula by its grouping or the level's name; paths begin at the description."""
    h = Hierarchy(response="y", levels=Level(group="g", covariance=K))
    texts = [f"{EXPLICIT}covariance = {way}", *(f"{FORMULA}[covariance]\n{key} = {way}" for key in ("g", "u2"))]
    for text in texts:
        model = ModelFile.parse(text, folder / "model.toml")
        assert model.hierarchy == h
        again = ModelFile.parse(model.hierarchy.to_toml(), folder / "again.toml")
        assert again.hierarchy == h
        assert again.hierarchy.to_toml() == model.hierarchy.to_toml()
        assert way.replace("1, 0", "1.0, 0") in model.hierarchy.to_toml()


def test_a_precision_and_what_is_known_entirely(folder):
    text = f"{EXPLICIT}known = true\nprecision = 'K.csv'\n"
    h = ModelFile.parse(text, folder / "model.toml").hierarchy
    assert h.levels == (Level(group="g", known=True, precision=KnownMatrix.of("K.csv", precision=True, folder=folder)),)
    assert ModelFile.parse(h.to_toml(), folder / "again.toml").hierarchy == h


RESIDUALS = {
    'structure = "ar1"\ngroup = "Mare"\ntime = "t"': Residual(structure="ar1", group="Mare", time="t"),
    'structure = "cs"\ngroup = ["a b", "c"]\nby = "s"': Residual(structure="cs", group=("a b", "c"), by="s"),
    'structure = "strata"\nby = "Sex"\nweights = "w"': Residual(structure="strata", by="Sex", weights="w"),
    'structure = "known"\ngroup = "id"\ncovariance = "K.csv"': Residual(structure="known", group="id", covariance=K),
    'weights = "w"': Residual(weights="w"),
    "": Residual(),
}


@pytest.mark.parametrize("text", RESIDUALS)
def test_a_residual_is_a_table_beside_a_formula_or_levels(text, folder):
    for start in (FORMULA, EXPLICIT):
        h = ModelFile.parse(f"{start}[residual]\n{text}", folder / "model.toml").hierarchy
        assert h.residual == RESIDUALS[text]
        assert ModelFile.parse(h.to_toml(), folder / "again.toml").hierarchy == h


def test_with_a_structured_residual_no_level_is_needed():
    h = Hierarchy(response="y", fixed="x", residual=Residual(structure="cs", group="g"))
    for start in ('formula = "y ~ x"', 'response = "y"\nfixed = "x"'):
        assert ModelFile.parse(f'{start}\n[residual]\nstructure = "cs"\ngroup = "g"').hierarchy == h
    assert ModelFile.parse(h.to_toml()).hierarchy == h


def test_only_the_model_is_needed():
    model = ModelFile.parse(FORMULA)
    assert (model.title, model.data, model.priors, model.missing) == ("", None, {}, "error")


# --- what is wrong is said with file, line, and what to write instead

WRONG = [
    # text, line, what the message says
    ('titel = "T"\n' + FORMULA, 1, "unknown key 'titel'", "Did you mean 'title'?"),
    (FORMULA + "\n\nTITLE = 'x'", 4, "unknown key 'TITLE'", "Did you mean 'title'?"),
    (FORMULA + "title = 3", 2, "title is 3", 'title = "Heights'),
    (FORMULA + "missing = 'dropp'", 2, "missing is 'dropp'", '"drop"'),
    (FORMULA + "data = 'd.xlsx'", 2, "'d.xlsx'", ".csv or .csv.gz"),
    (FORMULA + "data = 'https://example.org/d.csv'", 2, "https", ".csv or .csv.gz"),
    (FORMULA + "fixed = '1'", 2, "both describe the model", "keep the formula"),
    ("\n\nformula = 'y ~ 1 + (1 | )'", 3, "position 14", "nothing stands right of the bar"),
    ("# a\nformula = 'y ~ __import__(\"os\")'", 2, "position 5", "runs no code"),
    ("formula = 'y ~ x'", 1, "no level above the rows", "(1 | group)"),
    ("", 1, "nothing describes the model", "formula ="),
    ("response = 'y'", 1, "'levels' is missing", "[[levels]]"),
    ("\n[[levels]]\ngroup = 'g'", 2, "'response' is missing", 'response = "y"'),
    ("response = 'y'\n[[levels]]\ngroup = 'g'\n[[levels]]\ngroups = 'h'", 5, "'groups'", "mean 'group'?"),
    ("response = 'y'\n[[levels]]\ngroup = 'g'\n[[levels]]\neffects = 'x'", 4, "'group' is missing", "text"),
    ("response = 'y'\n[[levels]]\ngroup = 3", 3, "group is 3", "a text or a list"),
    ("response = 'y'\n[[levels]]\ngroup = 'g'\ncorrelated = 'no'", 4, "'no'", "true or false"),
    ("response = 'y'\n[[levels]]\ngroup = 'g'\n\neffects = 'x.y'", 5, "position 2", "runs no code"),
    ("response = 'y'\n[[levels]]\ngroup = 'a/b'", 3, "several groupings", "a level for each"),
    ("response = 'y'\nfixed = '1 +'\n[[levels]]\ngroup = 'g'", 2, "position 3", "nothing follows"),
    ("fixed = 'x'\nresponse = 'a b'\n[[levels]]\ngroup = 'g'", 2, "position 3", "expected `~`"),
    ("response = 'y'\n[[levels]]\ngroup = 'g'\n[[levels]]\ngroup = 'g'", 2, "varies twice", "Remove one"),
    ("response = 'y'\nlevels = 3", 2, "levels is 3", "[[levels]]"),
    ("title = 'a'\nformula = y", 2, "malformed TOML", "formula = y"),
    (FORMULA + "title = 'a", 2, "malformed TOML", "key = value"),
    (EXPLICIT + "covariance = 3", 4, "levels.0.covariance is 3", 'a path such as "kinship.csv"'),
    (EXPLICIT + "\ncovarance = 'K.csv'", 5, "unknown key 'covarance'", "Did you mean 'covariance'?"),
    (EXPLICIT + "\ncovariance = 'K.csv'", 5, "K.csv", "there is no file"),
    (EXPLICIT + "precision = 'K.xlsx'", 4, "K.xlsx", ".csv, .csv.gz, .mtx, .mtx.gz or .npz"),
    (EXPLICIT + "precision = 'K.mtx'", 4, "K.mtx", 'labels = "labels.txt"'),
    (EXPLICIT + "covariance = {file = 'K.mtx', label = 'K.txt'}", 4, "unknown key 'label'", "mean 'labels'?"),
    (EXPLICIT + "covariance = {file = 'K.mtx'}", 4, "'labels' is missing here", "one label a line"),
    (EXPLICIT + "covariance = {labels = ['a'], matrix = [[1, 2]]}", 4, "shape (1, 2)", "square"),
    (EXPLICIT + "covariance = {labels = ['a', 'b'], matrix = [[1, 2], [3, 1]]}", 4, "asymmetry is 1", "('a', 'b')"),
    (EXPLICIT + "covariance = {labels = ['a'], matrix = [['x']]}", 4, "matrix.0.0 is 'x'", "rows of numbers"),
    (EXPLICIT + "[levels.covariance]\nfile = 'K.mtx'\nlabels = 3", 6, "labels is 3", "one label a line"),
    (EXPLICIT + "known = true", 3, "known but has no covariance", "covariance=K"),
    (EXPLICIT + "known = 1", 4, "levels.0.known is 1", "sigma^2 times"),
    (EXPLICIT + "[covariance]\ng = 'K.csv'", 4, "[covariance] stands beside a formula", "in its [[levels]]"),
    (FORMULA + "covariance = 'K.csv'", 2, "covariance is 'K.csv'", 'animal = "kinship.csv"'),
    (FORMULA + "[covariance]\ng = 3", 3, "covariance.g is 3", 'a path such as "kinship.csv"'),
    (FORMULA + "[covariance]\n\nh = 'K.csv'", 4, "'h', which is no level", "there are u2 (g)"),
    (FORMULA + "[precision]\ng = {labels = ['a'], matrix = [[nan]]}", 3, "the precision", "missing or infinite"),
    (FORMULA + "[covariance]\ng = {labels = ['a'], matrix = [[1]]}\nu2 = 'K'", 4, "has a matrix already", "keep"),
    (FORMULA + "residual = 'ar1'", 2, "residual is 'ar1'", "[residual]"),
    (FORMULA + "[residual]\nstructure = 'ar'", 3, "residual.structure is 'ar'", "Did you mean 'ar1'?"),
    (FORMULA + "[residual]\nstrata = 'g'", 3, "unknown key 'strata'; [residual] has structure", "by"),
    (FORMULA + "[residual]\nstructure = 'cs'", 3, "needs group", "'Subject'"),
    (FORMULA + "[residual]\nby = 's'", 2, "'iid' has no 'by'", "write structure='strata'"),
    (FORMULA + "[residual]\nstructure = 'ar1'\ngroup = 'a/b'", 4, "several groupings", "a level for each"),
    (FORMULA + "[residual]\nweights = ''", 3, "a column name is empty", "name"),
    (FORMULA + "[residual]\nweights = 2", 3, "residual.weights is 2", "name of a column"),
    (FORMULA + "[residual]\nstructure = 'known'\ncovariance = 'R.csv'", 4, "R.csv", "there is no file"),
    (EXPLICIT + "[residual]\nweights = 'y'", 4, "'y' stands in the residual too", "remove it"),
    ("response = 'y'\n[residual]\nweights = 'w'", 2, "no level above the rows", "(1 | group)"),
    (FORMULA + "[priors]\nsigma = 2", 3, "priors.sigma is 2", "HalfNormal(sigma=2)"),
    (FORMULA + "[priors.sigma_u2]\nx = 2", 3, "priors.sigma_u2.x is 2", "HalfNormal(sigma=2)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "what", "instead"), WRONG)
def test_an_error_names_the_file_and_the_line(text, line, what, instead, tmp_path):
    path = tmp_path / "model.toml"
    path.write_text(text)
    with pytest.raises(DescriptionError) as caught:
        ModelFile.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}")
    assert what in message
    assert instead in message


@pytest.mark.parametrize("table", ['[priors]\nsigma = "HalfNormal(sgma=2)"', '[priors.s]\nx = "HalfNormal(sgma=2)"'])
def test_an_unreadable_prior_is_a_prior_error_at_its_line(table):
    with pytest.raises(PriorError, match=r"line 3: priors\..*Did you mean 'sigma'"):
        ModelFile.parse(FORMULA + table)


def test_all_wrong_keys_are_told_at_once():
    with pytest.raises(DescriptionError) as caught:
        ModelFile.parse("titel = 'a'\nnote = 'b'\n" + FORMULA)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "description.toml, line 1",
        "description.toml, line 2",
    ]


def test_a_file_that_is_not_there_is_named_with_one_that_is(tmp_path):
    (tmp_path / "heights.toml").write_text(FORMULA)
    with pytest.raises(DescriptionError, match=r"no description file .*hights\.toml.*Did you mean 'heights\.toml'"):
        ModelFile.read(tmp_path / "hights.toml")
    with pytest.raises(DescriptionError, match="there is no folder"):
        ModelFile.read(tmp_path / "nowhere" / "a.toml")
    with pytest.raises(DescriptionError, match="cannot be read as a file"):
        ModelFile.read(tmp_path)
    for wrong in (None, 3, b"x", "a\0b"):
        with pytest.raises(DescriptionError, match=r"The path is .*; expected .* 'models/heights\.toml'"):
            ModelFile.read(wrong)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(DescriptionError, match="UTF-8"):
        ModelFile.read(tmp_path / "a.toml")


def test_lines_of_keys_are_found_past_tables_comments_and_long_texts():
    text = 'a = 1\nb = """\nc = 2\n"""\n# d = 3\n[t]\nd = 4\n"e f" = 5\n[[l]]\ng = 6\n[[l]]\ng = 7\nh.i = 8\n'
    lines = key_lines(text)
    assert ("c",) not in lines
    assert lines[("t", "d")] == 7
    assert lines[("t", "e f")] == 8
    assert (lines[("l", 0, "g")], lines[("l", 1, "g")]) == (10, 12)
    assert lines[("l", 1, "h", "i")] == 13


# --- the data


def table(tmp_path, content, formula="y ~ 1 + (1 | g)", name="d.csv"):
    (tmp_path / name).write_bytes(content)
    return ModelFile.parse(f'formula = "{formula}"\ndata = "{name}"', tmp_path / "model.toml").load_data()


def test_whole_numbers_that_group_are_numbers_and_codes_stay_texts(tmp_path):
    assert list(table(tmp_path, b"g,y\n308,1\n309,2\n")["g"]) == [308, 309]
    assert list(table(tmp_path, b"g,y\n01,1\n1,2\n")["g"]) == ["01", "1"]
    assert list(table(tmp_path, b"g,y\nNone,1\nnull,2\n")["g"]) == ["None", "null"]
    assert list(table(tmp_path, 'g,y\nÖ 1,1\n"a, b",2\n'.encode())["g"]) == ["Ö 1", "a, b"]


def test_empty_cells_and_na_are_missing(tmp_path):
    frame = table(tmp_path, b"g,y\na,1\n,2\nb,NA\nNA,3\n")
    assert list(frame["g"].isna()) == [False, True, False, True]
    assert list(frame["y"].isna()) == [False, False, True, False]


def test_compressed_tables_and_a_byte_order_mark_are_read(tmp_path):
    assert table(tmp_path, gzip.compress(b"g,y\na,1\n"), name="d.csv.gz").shape == (1, 2)
    assert list(table(tmp_path, b"\xef\xbb\xbfg,y\na,1\n").columns) == ["g", "y"]


def test_a_path_may_leave_the_folder(tmp_path):
    (tmp_path / "d.csv").write_text("g,y\na,1\n")
    (tmp_path / "sub").mkdir()
    model = ModelFile.parse(FORMULA + 'data = "../d.csv"', tmp_path / "sub" / "model.toml")
    assert len(model.load_data()) == 1


def test_unusable_data_are_named(tmp_path):
    with pytest.raises(DataError, match=r"names no data.*data = "):
        ModelFile.parse(FORMULA).load_data()
    (tmp_path / "heights.csv").write_text("g,y\n")
    model = ModelFile.parse(FORMULA + 'data = "hights.csv"', tmp_path / "model.toml")
    with pytest.raises(DataError, match=r"hights\.csv does not exist.*Did you mean 'heights\.csv'"):
        model.load_data()
    with pytest.raises(DataError, match="the file is empty"):
        table(tmp_path, b"")
    with pytest.raises(DataError, match="not readable as a table"):
        table(tmp_path, b"g,y\na,1\na,1,2,3\n")
    with pytest.raises(DataError, match="not readable as a table"):
        table(tmp_path, b"no gzip", name="d.csv.gz")
    with pytest.raises(DataError, match="not readable as a table"):
        table(tmp_path, b"g,y\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"'g' stands twice"):
        table(tmp_path, b"g,g,y\na,a,1\n")


def test_columns_of_the_residual_are_texts_where_they_group_and_numbers_where_they_count(tmp_path):
    (tmp_path / "d.csv").write_text("id,plot,t,w,y\n01,1,1,2,3\n1,02,2,1.5,4\n")
    text = 'formula = "y ~ (1 | id)"\ndata = "d.csv"\n[residual]\nstructure = "ar1"\n'
    text += 'group = "plot"\nby = "id"\ntime = "t"\nweights = "w"\n'
    data = ModelFile.parse(text, tmp_path / "model.toml").load_data()
    assert data["id"].tolist() == ["01", "1"]
    assert data["plot"].tolist() == ["1", "02"]
    assert (data["t"].dtype.kind, data["w"].dtype.kind) == ("i", "f")


# --- the schema and the gallery


def test_the_published_schema_is_current():
    written = json.loads((MODELS / "schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(), "write it anew: json.dumps(json_schema(), indent=2) to models/schema.json"


def test_the_schema_explains_every_key():
    properties = json_schema()["properties"]
    assert set(properties) >= {"title", "source", "notes", "data", "formula", "levels", "missing", "priors"}
    assert all("description" in part for part in properties.values())
    assert json_schema()["additionalProperties"] is False


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_every_model_of_the_gallery_is_told_and_has_its_columns(path):
    model = ModelFile.read(path)
    assert model.title
    assert model.source
    assert model.notes.count(".") >= 2
    data = model.load_data()
    assert set(model.hierarchy.columns) <= set(data.columns)
    assert not data[list(model.hierarchy.columns)].isna().any().any()


def test_the_gallery_has_the_classical_examples():
    assert {path.stem for path in GALLERY} >= {
        "heights", "heights2", "dyestuff", "dyestuff2", "penicillin", "pastes", "sleepstudy",
        "sleepstudy_uncorrelated", "cake", "radon", "exam", "chem97", "ovary", "orthodont", "calves",
    }  # fmt: skip


def test_pastes_written_out_is_the_formula_of_its_notes():
    model = ModelFile.read(MODELS / "pastes.toml")
    assert model.hierarchy == Hierarchy.from_formula("strength ~ 1 + (1 | batch/cask)")


def test_every_table_of_the_gallery_has_its_source():
    sources = (MODELS / "data" / "SOURCES.md").read_text(encoding="utf-8")
    for path in (MODELS / "data").iterdir():
        assert path.name in sources or path.name == "SOURCES.md"
