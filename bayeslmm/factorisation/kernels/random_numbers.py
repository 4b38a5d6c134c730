"""Random numbers as functions of a key, so that they don't depend on who asks first: splitmix64.

Source: Steele, Lea & Flood (2014).
"""

from __future__ import annotations

import math

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner


@inner
def mix(x):
    """A hash of 64 bits (splitmix64)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner
def key_of(key, a):
    """The key of the a-th part of something."""
    return mix(key ^ np.uint64(a))


@inner
def within(key, k):
    """The key of group k in something."""
    return mix(mix(key) + np.uint64(k + 1))


@inner
def uniform(key, k):
    """The k-th number of a key, strictly between 0 and 1."""
    return (float(mix(key + np.uint64(k) * np.uint64(0xD1342543DE82EF95)) >> np.uint64(11)) + 0.5) / 9007199254740992.0


@inner
def t4(p):
    """The quantile of Student's t with 4 degrees of freedom."""
    root = math.sqrt(max(4.0 * p * (1.0 - p), 1e-300))
    x = 2.0 * math.sqrt(max(math.cos(math.acos(min(root, 1.0)) / 3.0) / root - 1.0, 0.0))
    return x if p > 0.5 else -x
