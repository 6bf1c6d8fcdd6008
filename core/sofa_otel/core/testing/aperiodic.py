"""Streams without any iteration: 60 kinds of activity in which nothing may be found with confidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Tables
from sofa_otel.core.testing.synthetic import START_NS, Synthetic
from sofa_otel.core.testing.truth import Truth

Generator = np.random.Generator
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_Gaps = Callable[[Generator, int], Floats]
_Words = Callable[[Generator, int], Ints]


def _bursts(rng: Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.03, rng.exponential(200.0, n), rng.exponential(0.2, n))


def _walk(rng: Generator, n: int) -> Floats:
    return np.exp(np.clip(np.cumsum(rng.normal(0, 0.15, n)), -4, 4))


# Relative gaps between events. None recurs.
_GAPS: Final[dict[str, _Gaps]] = {
    "poisson": lambda rng, n: rng.exponential(1.0, n),
    "bursts": _bursts,
    "heavy-tail": lambda rng, n: rng.pareto(1.3, n) + 0.01,
    "accelerating": lambda rng, n: np.geomspace(10, 0.1, n) * rng.uniform(0.5, 1.5, n),
    "slowing": lambda rng, n: np.geomspace(0.1, 10, n) * rng.uniform(0.5, 1.5, n),
    "random-walk": _walk,
}


def _zipf(rng: Generator, n: int) -> Ints:
    return np.minimum(rng.zipf(1.4, n), 60).astype(np.int64)


def _markov(rng: Generator, n: int) -> Ints:
    """A random walk on a ring of 30 names: locally ordered, globally without a period."""
    return np.cumsum(rng.integers(-1, 2, n)).astype(np.int64) % 30


def _growing(rng: Generator, n: int) -> Ints:
    """New names all the time, as in a program that starts up."""
    return np.sort(rng.integers(0, max(n // 3, 1), n)) + rng.integers(0, 3, n)


def _phases(rng: Generator, n: int) -> Ints:
    """A few long phases, each with its own few names, none coming back."""
    borders = np.sort(rng.integers(0, n, 5))
    return np.searchsorted(borders, np.arange(n)) * 5 + rng.integers(0, 5, n)


def _copying(rng: Generator, n: int) -> Ints:
    """Passages that are repeated once or twice at random places, at other distances each time."""
    words = rng.integers(0, 40, n)
    for _ in range(max(n // 60, 1)):
        length = int(rng.integers(5, 30))
        if n > 2 * length:
            a, b = rng.integers(0, n - length, 2)
            words[b : b + length] = words[a : a + length]
    return words


# Which names occur. No sequence comes back at a steady distance.
_WORDS: Final[dict[str, _Words]] = {
    "uniform": lambda rng, n: rng.integers(0, 40, n),
    "zipf": _zipf,
    "one-name": lambda _, n: np.zeros(n, np.int64),
    "two-names": lambda rng, n: rng.integers(0, 2, n),
    "markov": _markov,
    "all-different": lambda _, n: np.arange(n, dtype=np.int64),
    "growing": _growing,
    "phases": _phases,
    "copying": _copying,
    "shuffled": lambda rng, n: rng.permutation(np.arange(n, dtype=np.int64) % 80),
}

KINDS: Final = tuple(f"{gaps}/{words}" for gaps in _GAPS for words in _WORDS)


def aperiodic(
    kind: str, seed: int = 0, *, events: int = 4000, seconds: float = 20.0, event_kind: Kind = Kind.SYSCALL
) -> Synthetic:
    """A stream of one thread in which nothing recurs with a period.

    Args:
        kind: One of :data:`KINDS`.
        events: Rows.
        seconds: Time that they cover.
        event_kind: Kind of the rows.
    """
    gaps, _, words = kind.partition("/")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    gap = _GAPS[gaps](rng, events)
    start = START_NS + (np.cumsum(gap) / gap.sum() * seconds * 1e9).astype(np.int64)
    word = _WORDS[words](rng, events)
    tables = Tables()
    unique, inverse = np.unique(word, return_inverse=True)
    module = "syscall" if event_kind is Kind.SYSCALL else "library"
    ids = np.array([tables.symbols.intern(f"call_{int(w)}", module) for w in unique], np.uint32)
    header = BatchHeader("aperiodic", 0, "synthetic", f"synthetic/{event_kind.name.lower()}")
    batch = EventBatch.build(header, tables, start_ns=start, kind=int(event_kind), name=ids[inverse], pid=4242, tid=4242)
    return Synthetic([batch], tables, Truth(note=f"{kind}, seed {seed}"))
