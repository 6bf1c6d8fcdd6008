"""Two thousand damaged inputs for every importer, the same each time. ``benchmarks/import/fuzz.py`` does a million at random."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from fuzzing import Hang, attempt, guarded, mutated, samples

from sofa_otel.exporters.read.importer import available, load

CASES = 2000
PARTS = 4
GROWTH_KB = 300_000


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", sorted(available()))
def test_damaged_inputs_are_survived(name: str, part: int, tmp_path: Path) -> None:
    found = samples().get(name, [])
    assert found, f"tests/data/importers holds no file that is {name}'s"
    corpus = [*(sample.plain for sample in found), *(sample.raw for sample in found if sample.raw != sample.plain)]
    importer, before = load(name), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(part * CASES // PARTS, (part + 1) * CASES // PARTS):
        wrong = attempt(importer, mutated(corpus, seed), tmp_path)
        assert not wrong, f"{name}, seed {seed}: {wrong}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < GROWTH_KB, f"{name}: reading small files took {grown >> 10} MB"


def test_the_guards_bite() -> None:
    def endless() -> None:
        while True:
            pass

    with pytest.raises(Hang, match="test_fuzz"), guarded(seconds=0.05):
        endless()
    with pytest.raises(MemoryError), guarded(memory=50 << 20):
        bytearray(200 << 20)
