"""A fuzzer over formulas and description files: whatever comes, it is read or refused by one of the project's errors.

    python -m tests.fuzz --seconds 60 --seed 1

Texts are mutations of good ones: pieces are deleted, doubled, swapped, and replaced by what parsers stumble over.
Nothing of a text may run: the attacks, which the mutations use as well, would all make a file.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.description.model_file import ModelFile
from bayeslmm.design.building import build_design
from bayeslmm.errors import BayesLMMError
from bayeslmm.glmm import GLMM

N = 24
DATA = {
    "y": np.sin(np.arange(N)) + np.repeat(np.arange(6), 4),
    "x": np.cos(np.arange(N)),
    "n": np.arange(N) % 7 + 1,
    "f": np.resize(["u", "v", "w"], N),
    "g": np.repeat(np.arange(6), 4),
    "yield": np.arange(N) ** 1.5,
    "lambda": np.arange(N) % 5,
    "os": np.arange(N),
    "a": np.arange(N) % 4,
    "b": np.arange(N) % 3 + 1,
    "t": np.full(N, 4),
    "p": np.round(np.arange(N) % 7 + 1) // 2 / (np.arange(N) % 7 + 1),
    "s": (np.arange(N) % 9 + 1) / 10,
}

FORMULAS = [
    "y ~ x + (1 | g)",
    "log(n) ~ x*f + (x || g)",
    "I(y - x) ~ x + offset(log(n)) + (0 + x | g)",
    "yield ~ poly(x, 2, raw=True) + C(f, contr.sum) + (1 | g/f)",
    "y ~ bs(x, df=4) + {x**2} + scale(n):f + (0 + lambda | g:f)",
    "`y` ~ (x + f)^2 - x:f + C(f, levels=['v', 'u', 'w']) + (1 | `g`)",
]

DESCRIPTIONS = [
    'formula = "y ~ x + (1 | g)"\ntitle = "A"\n[priors]\nsigma = "HalfNormal(sigma=2)"\nx = "Normal(mu=0, sigma=1)"\n',
    'response = "y"\nfixed = "1 + x"\noffset = "log(n)"\nmissing = "drop"\n'
    '[[levels]]\ngroup = "g"\neffects = "1 + x"\ncorrelated = false\n[[levels]]\ngroup = ["f", "g"]\n',
    'response = "y"\n[residual]\nstructure = "ar1"\ngroup = "g"\ntime = "n"\nweights = "n"\n',
    'response = "y"\n[[levels]]\ngroup = "g"\n'
    'covariance = {labels = ["a", "b"], matrix = [[1.0, 0.5], [0.5, 1.0]]}\nknown = true\n',
    'formula = "y ~ (1 | g)"\ndata = "d.csv"\n[covariance]\ng = "K.csv"\n',
]

WITH_FAMILY = [
    'formula = "cbind(a, b) ~ x + (1 | g)"\nfamily = "binomial(link = logit)"\n[priors]\nx = "Normal(mu=0, sigma=1)"\n',
    'formula = "p ~ x + (1 | g)"\nfamily = "bernoulli(probit)"\nweights = "n"\nmissing = "drop"\n',
    'response = "a"\nfailures = "b"\nfamily = "binomial"\noffset = "log(n)"\n[[levels]]\ngroup = ["f", "g"]\n',
    'formula = "a | trials(t) ~ x + (1 | g)"\nfamily = "binomial(cloglog)"\n',
    'formula = "cbind(a, t - a) ~ x + (1 | g)"\nfamily = "binomial"\n',
    'response = "a"\ntrials = "t"\nfamily = "binomial"\n[[levels]]\ngroup = "g"\n',
    'formula = "f ~ x + (1 | g)"\nfamily = "cumulative(link = probit)"\ncategories = ["u", "v", "w"]\n'
    '[priors]\nthreshold = "Normal(mu=0, sigma=4)"\n',
    'formula = "n ~ x + offset(log(n)) + (x | g)"\nfamily = "nbinom1"\n[priors]\nalpha = "LogNormal(mu=0, sigma=1)"\n',
    'formula = "s ~ x + (1 | g)"\nfamily = "beta_family(logit)"\n',
]

# each would make the file {0} if anything of it ran
ATTACKS = [
    "__import__('os').system('touch {0}')",
    "os.system('touch {0}')",
    "open('{0}', 'w')",
    "I(open('{0}', 'w'))",
    "log(open('{0}', 'w'))",
    "exec(\"open('{0}', 'w')\")",
    "eval(\"open('{0}', 'w')\")",
    "compile(\"open('{0}', 'w')\", 'a', 'exec')",
    "(lambda: open('{0}', 'w'))()",
    "I((lambda: open('{0}', 'w'))())",
    "x.__class__.__base__.__subclasses__()",
    "x.map(lambda v: open('{0}', 'w'))",
    "x.pipe(open('{0}', 'w'))",
    "x.to_csv('{0}')",
    "y.to_pickle('{0}')",
    "np.save('{0}', x)",
    "np.lib.npyio.os.system('touch {0}')",
    'pd.eval(\'@open("{0}", "w")\')',
    "{{open('{0}', 'w')}}",
    "{{x.to_csv('{0}')}}",
    "C(x, open('{0}', 'w'))",
    "C(x, contr.treatment(open('{0}', 'w')))",
    "C(x, contr.custom(open('{0}', 'w')))",
    "C(x, levels=[open('{0}', 'w')])",
    "poly(x, degree=open('{0}', 'w'))",
    "bs(x, knots=open('{0}', 'w'))",
    "Q(\"open('{0}', 'w')\")",
    "`open('{0}', 'w')`",
    "I(`open('{0}', 'w')`)",
    "log(`x`) + `__import__('os').system('touch {0}')`",
    "x if open('{0}', 'w') else x",
    "[open('{0}', 'w') for v in x][0]",
    "f\"{{open('{0}', 'w')}}\"",
    "x; open('{0}', 'w')",
    "x\nimport os; os.system('touch {0}')",
    "log(x, out=open('{0}', 'w'))",
    "I(x @ open('{0}', 'w'))",
    "offset(open('{0}', 'w'))",
    "offset(I(open('{0}', 'w')))",
    "hashed(x, levels=open('{0}', 'w'))",
    "yield open('{0}', 'w')",
    "await open('{0}', 'w')",
    "breakpoint()",
    "HalfNormal(sigma=open('{0}', 'w'))",
    "!!python/object/apply:os.system ['touch {0}']",
]

PIECES = [
    *("(", ")", "[", "]", "{", "}", "`", '"', "'", "~", "|", "||", "+", "-", "*", "/", ":", "^", "**", ",", "=", "."),
    *("0", "1", "2", "1e400", "1e-400", "99999999999999999999", "\uff12", "\u0663", "\u00b2", "-0", "nan", "inf"),
    *("x", "y", "g", "f", "n", "lambda", "yield", "None", "offset(", "log(", "I(", "poly(", "C(", "true", "null"),
    *("\0", "\t", "\n", "\r", "\u2028", "\ufeff", "\u202e", "\U0001f600", "e\u0301", "\\", "\\u0000", "\x1b[31m"),
    *('"""', "'''", "#", "[[", "]]", "[x]\n", "a.b.c", "../" * 9, "x" * 5000, "9" * 5000, "[" * 3000, "{a=" * 3000),
    *("(" * 60, "g/" * 2000, "x + " * 300, "K.csv", "/dev/zero", "/dev/stdin", "<script>", "%s%n", "2024-01-01"),
]


def mutate(text: str, rng: random.Random, canary: Path) -> str:
    """Change a text in one to four places."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randint(0, len(text))
        end = min(len(text), at + rng.choice([0, 0, 1, 1, 3, 12]))
        kind = rng.random()
        if kind < 0.6:
            new = rng.choice(PIECES)
        elif kind < 0.7:
            new = rng.choice(ATTACKS).format(canary)
        elif kind < 0.8:
            new = text[at:end] * 2
        elif kind < 0.9:
            new = chr(rng.choice([rng.randint(0, 127), rng.randint(128, 0x2FFF), rng.randint(0x10000, 0x1FFFF)]))
        else:
            new = ""
        text = text[:at] + new + text[end:]
    return text


def try_formula(text: str) -> str | None:
    """Read a formula and join it with data; None where that goes well, else what was said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            hierarchy = Hierarchy.from_formula(text)
            assert Hierarchy.from_formula(hierarchy.formula) == hierarchy, "the formula that is written reads otherwise"
            build_design(hierarchy, DATA).describe()
    except BayesLMMError as error:
        return str(error)
    return None


def try_description(text: str, folder: Path) -> str | None:
    """Read a description file, and the data that it names; None where that goes well, else what was said."""
    path = folder / "description.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        file = ModelFile.read(path)
        if file.data is not None:
            file.load_data()
        if file.outcome is not None:
            _require_the_same_when_written(file)
    except BayesLMMError as error:
        return str(error)
    return None


def _require_the_same_when_written(file: ModelFile) -> None:
    """A GLMM of it, with its text read again as the same description."""
    frame = file.outcome.in_order(pd.DataFrame(DATA), file.hierarchy.response)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = GLMM(file.hierarchy, frame, priors=file.priors, missing=file.missing, **file.outcome.arguments())
        model.describe()
    again = ModelFile.parse(model.to_toml())
    assert again.hierarchy == file.hierarchy, "the description that is written reads otherwise"
    assert again.outcome.arguments() == file.outcome.arguments()


def main() -> None:
    """Mutate until the time is over; what isn't refused properly ends the run with its text."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    folder = Path(tempfile.mkdtemp())
    canary = folder / "canary"
    tried = read = 0
    slowest = (0.0, "")
    began = time.perf_counter()
    while time.perf_counter() - began < given.seconds:
        formula = rng.random() < 0.5
        text = mutate(rng.choice(FORMULAS if formula else [*DESCRIPTIONS, *WITH_FAMILY]), rng, canary)
        start = time.perf_counter()
        try:
            said = try_formula(text) if formula else try_description(text, folder)
        except BaseException:
            print(repr(text))
            raise
        assert not canary.exists(), f"something ran: {text!r}"
        slowest = max(slowest, (time.perf_counter() - start, text))
        tried, read = tried + 1, read + (said is None)
    print(f"{tried} texts, {read} read and {tried - read} refused; the slowest took {slowest[0]:.2f} s:")
    print(repr(slowest[1][:200]))


if __name__ == "__main__":
    main()
