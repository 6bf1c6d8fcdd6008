"""How much memory do ``sofa run`` and its helpers hold while the target runs?

Samples the proportional set size (PSS: shared pages are counted once) of the sofa process and of every descendant that is not
part of the target.

    python benchmarks/agent_memory.py --job cnn
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.jobs import EXAMPLE_JOBS, STYLE_JOBS, select
from harness.live import SOFA, job_command, job_environment
from harness.output import table, write_json
from harness.trainers import HINT, find_trainer

LIMIT_MB = 100.0


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, 0 if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def children(pid: int) -> list[int]:
    """Direct children of all threads of a process."""
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(word) for file in files for word in file.read_text().split()]
    except OSError:
        return []


def command_line(pid: int) -> str:
    """Arguments of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def is_target(pid: int, script: str) -> bool:
    """Whether a process runs ``script``; sofa's own processes name it too, after their own name."""
    line = command_line(pid)
    return script in line and str(SOFA) not in line


def helpers(pid: int, target: str) -> list[int]:
    """Descendants of ``pid`` except the target's tree, which is known by the script's path."""
    out = []
    for child in children(pid):
        if not is_target(child, target):
            out += [child, *helpers(child, target)]
    return out


def measure(command: list[str], environment: dict[str, str], target: str) -> list[tuple[float, float]]:
    """Run ``command``; (sofa, helpers) in MB every half second from the target's start to its end."""
    samples = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sofa:
        started = False
        while sofa.poll() is None:
            alive = any(is_target(child, target) for child in children(sofa.pid))
            if alive:
                started = True
                samples.append((pss_mb(sofa.pid), sum(pss_mb(pid) for pid in helpers(sofa.pid, target))))
            elif started:
                break
            time.sleep(0.5)
    return samples


def main() -> int:
    """Run, print, and return 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", default="digits,cnn", help="comma-separated")
    parser.add_argument("--collect", default="auto")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, documents, worst = [], [], 0.0
    for job in select(arguments.job, EXAMPLE_JOBS + STYLE_JOBS):
        python = find_trainer(job.trainer)
        if python is None:
            print(job.name, "not run:", HINT[job.trainer], file=sys.stderr)
            continue
        job = job.scaled(arguments.scale)
        with tempfile.TemporaryDirectory() as folder:
            flags = ["-o", f"{folder}/run", "--collect", arguments.collect, "--port", "0"]
            command = [str(SOFA), "run", *flags, "--", *job_command(job, python, None)]
            samples = measure(command, job_environment(job), str(job.script))
        if not samples:
            raise SystemExit(f"{job.name}: the target was never seen")
        totals = [a + b for a, b in samples]
        worst = max(worst, *totals)
        rows.append(
            (
                job.name,
                len(samples),
                f"{max(a for a, _ in samples):.1f}",
                f"{max(b for _, b in samples):.1f}",
                f"{max(totals):.1f}",
            )
        )
        documents.append({"job": job.name, "samples_mb": samples, "max_mb": max(totals)})
    print(table(("job", "samples", "sofa MB", "helpers MB", "together MB"), rows))
    write_json(arguments.json, "agent_memory", documents, limit_mb=LIMIT_MB)
    return int(worst > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
