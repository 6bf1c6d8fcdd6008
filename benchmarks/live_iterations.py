"""Are the iterations of live training jobs found, when, and how exactly?

Runs jobs under ``sofa run`` and compares the report with the job's own step times: hooks on and off, with every collector and
with the probe alone, as root and as a plain user, on several Pythons.

    python benchmarks/live_iterations.py --jobs digits,gpt --hooks on,off --users root,nobody
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.bars import has_exact_source, reaches
from harness.jobs import EXAMPLE_JOBS, STYLE_JOBS, Job, select
from harness.live import Options, can_change_user, run_live
from harness.output import percent, table, write_json
from harness.trainers import HINT, find_trainer
from harness.truth import compare

HEAD = (
    "job", "python", "hooks", "collect", "user", "rank", "found", "level", "source", "conf", "lock", "count", "error",
    "step ms", "error", "F1@10", "F1@25", "ok",
)  # fmt: skip


def cases(arguments: argparse.Namespace) -> list[tuple[Job, str, Options]]:
    """Every combination that makes sense: hooks only differ where torch is."""
    jobs = [job.scaled(arguments.scale) for job in select(arguments.jobs, EXAMPLE_JOBS + STYLE_JOBS)]
    out = []
    for job, version, hooks, collect, user in itertools.product(
        jobs, arguments.pythons.split(","), arguments.hooks.split(","), arguments.collect.split(","), arguments.users.split(",")
    ):
        if job.trainer != "torch" and hooks != arguments.hooks.split(",")[0]:
            continue
        out.append((job, version, Options(hooks, collect, user)))
    return out


def main() -> int:
    """Run, print, and return 1 if a case misses the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default="", help="comma-separated; default all")
    parser.add_argument("--hooks", default="on,off")
    parser.add_argument("--collect", default="auto,probe")
    parser.add_argument("--users", default="root,nobody")
    parser.add_argument("--pythons", default="3.11,3.13")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on every job's number of steps")
    parser.add_argument("--short", action="store_true", help="one Python, present user, every collector")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder that keeps the run directories")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.users, arguments.collect, arguments.pythons = "root", "auto", ""
    rows: list[tuple[object, ...]] = []
    documents: list[dict[str, object]] = []
    missed = 0
    for job, version, options in cases(arguments):
        labels = (job.name, version or "any", options.hooks if job.trainer == "torch" else "-", options.collect, options.user)
        python = find_trainer(job.trainer, version)
        if python is None or (options.user != "root" and not can_change_user()):
            why = f"not run: {HINT[job.trainer] if python is None else 'needs root to change the user'}"
            print(*labels, why, file=sys.stderr)
            documents.append({**dict(zip(HEAD, labels, strict=False)), "not_run": why})
            continue
        keep = arguments.keep / "-".join(labels) if arguments.keep and options.user == "root" else None
        outcome = run_live(job, python, options, keep)
        for error in outcome.errors:
            print(*labels, error, outcome.stderr[-800:], sep="\n  ", file=sys.stderr)
        if not outcome.report or len(outcome.truths) < job.ranks:
            missed += 1
            rows.append((*labels, "-", "FAILED", *[""] * (len(HEAD) - 8), "MISS"))
            documents.append({**dict(zip(HEAD, labels, strict=False)), "errors": outcome.errors})
            continue
        exact = has_exact_source(job, python, options)
        for rank, truth in outcome.truths.items():
            c = compare(outcome.report, truth, rank)
            ok = reaches(job, c, exact)
            missed += not ok
            rows.append(
                (
                    *labels, rank, "yes" if c.found else "no", c.level, c.source, f"{c.confidence:.2f}", c.locked_after,
                    f"{c.count}/{c.truth_count}", percent(c.count_error), f"{1e3 * c.truth_median_s:.1f}",
                    percent(c.median_error), f"{c.f1_10:.2f}", f"{c.f1_25:.2f}", "ok" if ok else "MISS",
                )
            )  # fmt: skip
            print("  ".join(str(v) for v in rows[-1]), c.reason, file=sys.stderr)
            documents.append(
                {**dict(zip(HEAD, labels, strict=False)), "rank": rank, "exact_source": exact, **c.document(), "ok": ok}
            )
    print(table(HEAD, rows))
    print(f"{len(rows) - missed} of {len(rows)} reach the bar")
    write_json(arguments.json, "live_iterations", documents)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
