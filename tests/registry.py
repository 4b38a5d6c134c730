"""Small designs of every kind that the factorisation must handle: name, formula, groups of each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations, product

import numpy as np

from bayeslmm.lmm import LMM


@dataclass(frozen=True, kw_only=True)
class Case:
    """One design: each letter of a grouping column is the label of one row."""

    name: str
    formula: str
    groups: dict[str, str]
    shift: float = 0.0  # added to y
    noise: float = 1.0  # scale of y
    seed: int = field(default=1)

    @property
    def n(self) -> int:
        return len(next(iter(self.groups.values())))

    def data(self) -> dict[str, list]:
        """Columns: y, the groups, and the numbers x (per row), w (per row), t (0, 1, 2, ... in turn)."""
        rng = np.random.default_rng([self.seed, self.n])
        numbers = {
            "y": self.shift + self.noise * rng.normal(1.0, 1.0, self.n),
            "x": rng.normal(2.0, 1.0, self.n).round(2),
            "w": rng.normal(0.0, 3.0, self.n).round(2),
            "t": np.arange(self.n) % 4.0,
        }
        return {name: values.tolist() for name, values in numbers.items()} | {
            name: list(labels) for name, labels in self.groups.items()
        }

    def lmm(self, **options) -> LMM:
        return LMM(self.formula, self.data(), **options)


CASES = [
    Case(name="tiny", formula="y ~ 1 + (1 | g)", groups={"g": "aabb"}),
    Case(name="one way", formula="y ~ 1 + x + (1 | g)", groups={"g": "aaabbbcccddd"}),
    Case(name="unbalanced", formula="y ~ 1 + x + (1 | g)", groups={"g": "abbbcccccccdd"}),
    Case(name="singletons", formula="y ~ 1 + (1 | g)", groups={"g": "abcdefgghhhh"}),
    Case(name="no intercept", formula="y ~ 0 + x + (1 | g)", groups={"g": "aaabbbcccddd"}),
    Case(name="slope", formula="y ~ 1 + t + (1 + t | g)", groups={"g": "aaaabbbbccccdddd"}),
    Case(name="slope without intercept", formula="y ~ 1 + t + (0 + t | g)", groups={"g": "aaaabbbbccccdddd"}),
    Case(name="independent slope", formula="y ~ 1 + t + (1 + t || g)", groups={"g": "aaaabbbbccccdddd"}),
    Case(
        name="same grouping twice",
        formula="y ~ 1 + t + (1 | g) + (0 + t | g)",
        groups={"g": "aaaabbbbccccdddd"},
    ),
    Case(name="three effects", formula="y ~ 1 + x + (1 + x + w | g)", groups={"g": "aaaaabbbbbcccccddddd"}),
    Case(
        name="slopes of singletons",
        formula="y ~ 1 + x + (1 + x | g)",
        groups={"g": "abcddeeefffff"},
    ),
    Case(
        name="factor by group",
        formula="y ~ 0 + f + (0 + f | g)",
        groups={"f": "ppqqppqqppqqppqq", "g": "aaaabbbbccccdddd"},
    ),
    Case(
        name="nested",
        formula="y ~ 1 + (1 | a/b)",
        groups={"a": "pppppppqqqqqqqrrrr", "b": "kkkllmmkkklllmkkll"},
    ),
    Case(
        name="nested in three",
        formula="y ~ 1 + x + (1 | a/b/c)",
        groups={"a": "pppppppppqqqqqqqqq", "b": "kkkklllllkkkkkllll", "c": "ijijiijjjiijjjijij"},
    ),
    Case(
        name="nested with slopes",
        formula="y ~ 1 + x + (1 + x | a) + (1 + x | a:b)",
        groups={"a": "ppppppppqqqqqqqqq", "b": "kkkkllllkkkkklllm"},
    ),
    Case(
        name="slope above, intercept below",
        formula="y ~ 1 + x + (1 | a:b) + (1 + x || a)",
        groups={"a": "ppppppqqqqqqrrrrrr", "b": "kkkkllkkklllkkkkll"},
    ),
    Case(
        name="crossed",
        formula="y ~ 1 + (1 | g) + (1 | h)",
        groups={"g": "aaaabbbbccccdddd", "h": "ijklijklijklijkl"},
    ),
    Case(
        name="partially crossed",
        formula="y ~ 1 + x + (1 | g) + (1 | h)",
        groups={"g": "aaabbbbcccddddee", "h": "iijijkkjklklmlmm"},
    ),
    Case(
        name="crossed in three",
        formula="y ~ 1 + (1 | g) + (1 | h) + (1 | k)",
        groups={"g": "aaabbbcccdddeeef", "h": "ijkijkijkijkijki", "k": "uuvvvuuvvwwwuvwu"},
    ),
    Case(
        name="crossed with slopes",
        formula="y ~ 1 + x + (1 + x | g) + (1 + w | h)",
        groups={"g": "aaaaabbbbbcccccddd", "h": "ijkijkijkijkijkijk"},
    ),
    Case(
        name="nested and crossed with slopes",
        formula="y ~ 1 + x + (1 + x | a/b) + (1 + w || h)",
        groups={"a": "ppppppppqqqqqqqq", "b": "kkkkllllkkkkklll", "h": "ijkijkijjkkijkij"},
    ),
    Case(  # f = p never meets h = k: products that are exactly zero between groups that do meet
        name="factor by group, crossed",
        formula="y ~ 0 + f + (0 + f | g) + (1 | h)",
        groups={"f": "ppqqppqqppqqppqqpp", "g": "aaaabbbbccccddddaa", "h": "ijklijklijklijklij"},
    ),
    Case(
        name="factor by nested groups, crossed",
        formula="y ~ 1 + (0 + f | a/b) + (1 | h)",
        groups={
            "f": "ppqqppqqppqqppqqpqpq",
            "a": "uuuuuuuuuuvvvvvvvvvv",
            "b": "kkkkkllllllllllkkkkk",
            "h": "ijijijijijijijijijji",
        },
    ),
    Case(
        name="far from zero",
        formula="y ~ 1 + x + (1 | g)",
        groups={"g": "aaabbbcccddd"},
        shift=1e6,
        noise=0.3,
    ),
]

BY_NAME = {case.name: case for case in CASES}
SCALES = (0.0, 1e-4, 1.0, 1e4)


def scale_choices(levels: int) -> list[tuple[float, ...]]:
    """Factors of each level's lambda: all pairs for two levels; for three, equal and permuted."""
    if levels <= 2:
        return list(product(SCALES, repeat=levels))
    equal = [(scale,) * levels for scale in SCALES]
    return equal + sorted(set(permutations([1e-4, 1.0, 1e4], levels)))


def shape(level) -> np.ndarray:
    """A relative factor lambda of ordinary size: lower triangular, diagonal where effects are independent."""
    r = level.r
    lam = np.tril(0.4 - 0.3 * np.add.outer(np.arange(r), np.arange(r)), -1) + np.diag(0.8 + 0.3 * np.arange(r))
    return lam if level.correlated else np.diag(np.diag(lam))


def factors(levels, scales) -> list[np.ndarray]:
    """One lambda per level at the given scales."""
    return [scale * shape(level) for level, scale in zip(levels, scales, strict=True)]


def relative_G(levels, lambdas) -> list[np.ndarray]:
    """G per level: I (x) lambda lambda'."""
    return [np.kron(np.eye(level.m), lam @ lam.T) for level, lam in zip(levels, lambdas, strict=True)]
