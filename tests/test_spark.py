"""Sources on Spark, for real: a session in local mode, where pyspark and a Java runtime are there."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from tests.registry import BY_NAME
from tests.test_sources import assert_same_model, rows

pytest.importorskip("pyspark", reason="pyspark is not installed: Spark is not tried")
if shutil.which("java") is None:
    pytest.skip("there is no Java runtime: Spark is not tried", allow_module_level=True)


@pytest.fixture(scope="module")
def spark():
    """One session of one core: starting it takes longer than all that it is asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyspark.sql import SparkSession

        session = (
            SparkSession.builder.master("local[1]")
            .appName("bayeslmm")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.log.level", "ERROR")
            .getOrCreate()
        )
    yield session
    session.stop()


def in_spark(spark, frame):
    """The same rows as a Spark table."""
    plain = [tuple(None if value is None else value for value in row) for row in frame.astype(object).to_numpy()]
    return spark.createDataFrame([tuple(map(_python, row)) for row in plain], schema=list(frame.columns))


def _python(value):
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.filterwarnings("ignore:::pyspark")
@pytest.mark.parametrize("name", ["nested with slopes", "far from zero"])
def test_the_same_model_and_posterior(spark, name):
    case = BY_NAME[name]
    frame = pd.DataFrame(case.data())
    memory, source = blm.LMM(case.formula, frame), blm.LMM(case.formula, in_spark(spark, frame))
    assert_same_model(memory, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"draws": 100, "chains": 2, "random_seed": 1, "progress": False}
        one, other = (lmm.sample(**settings)["posterior"].to_dataset() for lmm in (memory, source))
    for variable in one.data_vars:
        size = np.abs(one[variable].to_numpy()).max()
        np.testing.assert_allclose(other[variable].to_numpy(), one[variable].to_numpy(), atol=1e-6 * size)


@pytest.mark.filterwarnings("ignore:::pyspark")
def test_the_pieces_of_a_formula(spark):
    frame = rows(300)
    formula = "log(y) ~ poly(x, 2):f + I(1 / z) + b + sqrt(z) + log10(z) + scale(x) + (1 + x | s/g)"
    assert_same_model(blm.LMM(formula, frame), blm.LMM(formula, in_spark(spark, frame)))


@pytest.mark.filterwarnings("ignore:::pyspark")
def test_missing_values_and_means_that_are_far_apart(spark):
    rng = np.random.default_rng(1)
    g = np.arange(60) % 5
    frame = pd.DataFrame({"y": 1e6 * g + rng.normal(size=60), "x": 1e5 * g + rng.normal(size=60), "g": g})
    memory, source = (blm.LMM("y ~ x + (1 | g)", data) for data in (frame, in_spark(spark, frame)))
    assert source.reml().sigma == pytest.approx(memory.reml().sigma, rel=1e-8)
    frame.loc[3, "x"] = np.nan
    with pytest.raises(blm.DataError, match="1 NaN"):
        blm.LMM("y ~ x + (1 | g)", in_spark(spark, frame))


@pytest.mark.filterwarnings("ignore:::pyspark")
def test_predictions_are_streamed(spark, tmp_path):
    frame = rows(100)
    lmm = blm.LMM("y ~ x + f + (1 | g)", in_spark(spark, frame))
    found = pd.read_parquet(lmm.stream_predictions(lmm.reml(), tmp_path / "out.parquet"))
    wanted = blm.LMM("y ~ x + f + (1 | g)", frame).reml().fitted
    np.testing.assert_allclose(found["estimate"], wanted, rtol=1e-6)
