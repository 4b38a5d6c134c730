"""Whatever a formula or a description file holds: it is read, or refused by the project's own errors; nothing runs."""

from __future__ import annotations

import contextlib
import os
import random
import time

import pytest

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.description.model_file import ModelFile
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.formula.parse import parse
from tests.fuzz import ATTACKS, DATA, DESCRIPTIONS, FORMULAS, WITH_FAMILY, mutate, try_description, try_formula

BASE = 'formula = "y ~ 1 + (1 | g)"\n'
LEVEL = 'response = "y"\n[[levels]]\ngroup = "g"\ncovariance = '


@pytest.mark.parametrize("text", FORMULAS)
def test_what_the_fuzzer_starts_from_is_read(text):
    assert try_formula(text) is None


@pytest.mark.parametrize("seed", range(4))
def test_mutated_formulas_are_read_or_refused(seed, tmp_path):
    rng = random.Random(seed)
    for _ in range(100):
        try_formula(mutate(rng.choice(FORMULAS), rng, tmp_path / "canary"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("seed", range(4))
def test_mutated_descriptions_are_read_or_refused(seed, tmp_path):
    rng = random.Random(seed)
    for _ in range(100):
        try_description(mutate(rng.choice(DESCRIPTIONS), rng, tmp_path / "canary"), tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("text", WITH_FAMILY)
def test_descriptions_with_a_family_that_the_fuzzer_starts_from_are_models(text, tmp_path):
    assert try_description(text, tmp_path) is None


@pytest.mark.parametrize("seed", range(4))
def test_mutated_descriptions_with_a_family_are_models_or_refused(seed, tmp_path):
    rng = random.Random(seed)
    for _ in range(60):
        try_description(mutate(rng.choice(WITH_FAMILY), rng, tmp_path / "canary"), tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_runs_nowhere(attack, tmp_path):
    canary = tmp_path / "canary"
    code = attack.format(canary)
    for place in ("{}", "y ~ {} + (1 | g)", "y ~ x + ({} | g)", "y ~ x + (1 | {})", "{} ~ x + (1 | g)"):
        assert try_formula(place.format(code)) is not None  # at the latest, there is no such column
    said = code.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    for place in (
        'formula = "{}"',
        'formula = "y ~ log({}) + (1 | g"',
        BASE + '[priors]\nsigma = "{}"',
        LEVEL + '"{}"',
        BASE + 'family = "{}"',
        BASE + 'family = "binomial"\nweights = "{}"',
    ):
        assert try_description(place.replace("{}", said), tmp_path) is not None
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "x = " + "[" * 3000 + "]" * 3000, "nested too deep"),
        (BASE + "x = " + "{a = " * 3000 + "1" + "}" * 3000, "nested too deep"),
        (BASE + "title = " + "9" * 5000, "more than 4,300 digits"),
        (BASE + "title = 0x" + "f" * 5000, "more than 308 digits"),
        (LEVEL + '"a\\u0000.csv"', "a character that no path can have"),
        (LEVEL + '{file = "a\\u0000.mtx", labels = "description.toml"}', "a character that no path can have"),
        (LEVEL + f'"{"a" * 5000}.csv"', "cannot be read as a file"),
        (BASE + f'data = "{"a" * 5000}.csv"', "does not exist"),
        (BASE + 'data = "a\\u0000.csv"', "does not exist"),
        (BASE + "a." * 3000 + "a = 1", "line 2: a key of more than 50 parts"),
        (BASE + "".join(f"k{i} = 1\n" for i in range(20_000)), "more than 10,000 keys"),
        (BASE + "".join(f"k{i} = 1\n" for i in range(100)), "80 more like these"),
        (BASE + '[priors]\nsigma = "HalfNormal(sigma=' + "g/" * 2000 + '1)"', "parameters are plain numbers"),
        (BASE + "k" * 5000 + " = 1", "unknown key 'kkk"),
        (BASE + "x" * 5000, "line 2"),
    ],
)
def test_what_breaks_readers_is_refused_in_a_few_words(text, said, tmp_path):
    message = try_description(text, tmp_path)
    assert said in message
    assert len(message) < 10_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_pipes_devices_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", "/dev/null"):
        with pytest.raises(DescriptionError, match="it is a pipe or a device"):
            ModelFile.read(path)
    with pytest.raises(DescriptionError, match="it is a folder"):
        ModelFile.read(tmp_path)
    with pytest.raises(DescriptionError, match="it is a pipe or a device"):
        KnownMatrix.read("pipe.csv", folder=tmp_path)
    with pytest.raises(DescriptionError, match="no description file"):
        ModelFile.read("x" * 200)
    (tmp_path / "m.toml").write_text(BASE + 'data = "pipe.csv"')
    with pytest.raises(DataError, match="or is no file"):
        ModelFile.read(tmp_path / "m.toml").load_data()


@pytest.mark.parametrize(
    "text",
    [
        "y ~ (1 | " + "/".join(f"g{k}" for k in range(2000)) + ")",
        "y ~ " + "-" * 19_000 + "x",
        "y ~ " + "*".join(["x"] * 9000),
        "y ~ (" + "+".join(f"a{k}" for k in range(400)) + ")**5",
        "y ~ " + "+".join(f"(1 | a{k}/b/c)" for k in range(1000)),
    ],
)
def test_no_formula_of_the_longest_kind_takes_long(text):
    began = time.process_time()
    with contextlib.suppress(DescriptionError):
        parse(text)
    assert time.process_time() - began < 3.0  # of the processor, not of the clock: 4.3 s before, 0.3 s at most now


def test_names_of_pythons_own_are_columns_and_no_more():
    assert try_formula("yield ~ lambda + os + (1 | g)") is None
    assert "yield" in DATA
