"""Is the right cause named first? Injects causes into training jobs and counts which finding leads the report.

python benchmarks/findings.py --runs 3 --causes disk-read,quota-40
"""

from __future__ import annotations

import argparse
import collections
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.jobs import CAUSE_JOBS, select
from harness.live import Options, run_live
from harness.output import table, write_json
from harness.trainers import HINT, find_trainer

NOTHING = "none"
SHARE_OF = {"loader-bound": "loader", "disk-bound": "disk"}


def main() -> int:
    """Run, print the confusion table, and return 1 below 90 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--causes", default="", help="comma-separated job names; default all")
    parser.add_argument("--runs", type=int, default=3, help="runs of each job")
    parser.add_argument("--collect", default="auto")
    parser.add_argument("--python", default="", help="version of the trainer's Python")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    python = find_trainer("demo", arguments.python)
    if python is None:
        raise SystemExit(f"no trainer environment: {HINT['demo']}")
    rows, documents = [], []
    confusion: collections.Counter[tuple[str, str]] = collections.Counter()
    for repeat in range(arguments.runs):
        for job in select(arguments.causes, CAUSE_JOBS):
            outcome = run_live(job.scaled(arguments.scale), python, Options(collect=arguments.collect))
            if outcome.code == 77:
                print(job.name, "not run:", outcome.stderr.strip().splitlines()[-1], file=sys.stderr)
                continue
            findings = outcome.report.get("findings", [])
            serious = [f["id"] for f in findings if f["severity"] != "info"]
            first, expected = (serious or [NOTHING])[0], job.cause or NOTHING
            confusion[expected, first] += 1
            truth = outcome.truths.get(0)
            shares = outcome.report.get("breakdown", {}).get("shares", {})
            planted = truth.share if truth else None
            found = shares.get(SHARE_OF.get(job.cause, ""), None) if planted is not None else None
            difference = f"{100 * (found - planted):+.0f}" if found is not None and planted is not None else "-"
            rows.append(
                (
                    job.name,
                    repeat,
                    expected,
                    first,
                    " ".join(serious[1:]) or "-",
                    difference,
                    "ok" if first == expected else "MISS",
                )
            )
            print("  ".join(str(v) for v in rows[-1]), *outcome.errors, file=sys.stderr)
            documents.append({
                "job": job.name, "expected": expected, "first": first, "all": serious, "planted_share": planted,
                "found_share": found, "shares": shares, "errors": outcome.errors,
            })  # fmt: skip
    print(table(("job", "run", "expected", "first finding", "others", "share points", "ok"), rows))
    print()
    seen = sorted({found for _, found in confusion})
    expected_ids = sorted({expected for expected, _ in confusion})
    print(table(("expected \\ found", *seen), [(e, *(confusion[e, f] or "." for f in seen)) for e in expected_ids]))
    right = sum(n for (e, f), n in confusion.items() if e == f)
    total = sum(confusion.values())
    print(f"{right} of {total} right ({100 * right / max(1, total):.0f} %)")
    write_json(arguments.json, "findings", documents, right=right, total=total)
    return int(right < 0.9 * total)


if __name__ == "__main__":
    sys.exit(main())
