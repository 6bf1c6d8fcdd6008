"""Damaged inputs at random for every importer, by the hour; failing inputs are kept and told.

    python benchmarks/import/fuzz.py [--cases N] [--importers a,b] [--seed N] [--guided N] [--keep FOLDER]
    python benchmarks/import/fuzz.py --repeat FILE --importers NAME

Every ``--guided``-th case is traced; an input that reaches lines of our code which none before it reached joins the inputs that
are damaged further. Cases are spread evenly over the importers. Exit code 1 when something failed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "importers"))

from fuzzing import attempt, lines_reached, mutated, samples  # type: ignore[import-not-found]

from sofa_otel.exporters.read.importer import available, load

MOST_INPUTS = 300


def campaign(name: str, cases: int, seed: int, guided: int, keep: Path) -> int:
    """Read ``cases`` damaged inputs; returns how many failed."""
    corpus = [data for sample in samples().get(name, []) for data in {sample.plain, sample.raw}]
    if not corpus:
        print(f"{name:10} no sample in tests/data/importers")
        return 1
    importer, reached = load(name), set[tuple[str, int]]()
    kinds: dict[str, int] = {}
    began, told = time.process_time(), 0
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            data = mutated(corpus, seed + case)
            wrong = ""
            if guided and case % guided == 0 and len(corpus) < MOST_INPUTS:

                def run(data: bytes = data) -> None:
                    nonlocal wrong
                    wrong = attempt(importer, data, Path(folder))

                lines = lines_reached(run)
                if lines - reached:
                    reached |= lines
                    corpus.append(data)
            else:
                wrong = attempt(importer, data, Path(folder))
            if wrong:
                told += 1
                kind = wrong.split(": ")[0] + wrong.rpartition(" at ")[2]
                kinds[kind] = kinds.get(kind, 0) + 1
                if kinds[kind] <= 3:
                    keep.mkdir(parents=True, exist_ok=True)
                    path = keep / f"{name}-{seed + case}"
                    path.write_bytes(data)
                    print(f"{name:10} seed {seed + case}: {wrong}\n{'':10} again: fuzz.py --importers {name} --repeat {path}")
    spent = time.process_time() - began
    print(
        f"{name:10} {cases:9,} cases, {told:,} failed, {len(kinds)} kind(s), {len(corpus)} inputs, {len(reached)} lines, "
        f"{spent:.0f} CPU s ({1e3 * spent / max(cases, 1):.1f} ms a case)",
        flush=True,
    )
    return told


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000, help="of all importers together")
    parser.add_argument("--importers", default=",".join(sorted(available())))
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 40), help="of the first case")
    parser.add_argument("--guided", type=int, default=20, help="trace every N-th case, 0 for none")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "sofa-fuzz")
    parser.add_argument("--repeat", type=Path)
    options = parser.parse_args()
    names = options.importers.split(",")
    if options.repeat is not None:
        with tempfile.TemporaryDirectory() as folder:
            wrong = attempt(load(names[0]), options.repeat.read_bytes(), Path(folder))
        print(wrong or "survived")
        return bool(wrong)
    print(f"seed {options.seed}; {options.cases:,} cases")
    failed = [campaign(name, options.cases // len(names), options.seed, options.guided, options.keep) for name in names]
    return int(any(failed))


if __name__ == "__main__":
    raise SystemExit(main())
