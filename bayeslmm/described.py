"""The model that a description file describes: an LMM, or a GLMM where it names a family."""

from __future__ import annotations

from bayeslmm.description.model_file import ModelFile
from bayeslmm.glmm import GLMM
from bayeslmm.lmm import LMM
from bayeslmm.sources.described import data_of


def model_of(file: ModelFile) -> LMM | GLMM:
    """Make the model with its data and priors.

    Examples
    --------
    >>> from bayeslmm.gallery import example_path
    >>> model_of(ModelFile.read(example_path("dyestuff")))
    LMM('Yield ~ 1 + (1 | Batch)', 30 rows)
    """
    if file.outcome is None:
        return LMM(file.hierarchy, data_of(file), priors=file.priors, missing=file.missing)
    return GLMM(file.hierarchy, file.load_data(), priors=file.priors, missing=file.missing, **file.outcome.arguments())
