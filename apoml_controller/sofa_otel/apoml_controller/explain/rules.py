"""Rules: features in, hypotheses out. Each looks for one cause and says what it saw in plain words.

A rule that lacks a figure it needs stays silent: absence of evidence is never evidence. Causes come before symptoms: a CPU quota
makes loaders slow, so ``cpu-quota`` lists ``loader-bound`` under ``explains``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sofa_otel.apoml_controller.explain.features import Features
from sofa_otel.apoml_controller.explain.hypotheses import Hypothesis
from sofa_otel.core.names import FindingId
from sofa_otel.core.report import FindingItem, Report

Rule = Callable[[Features], Hypothesis | None]

LOADER_SHARE: Final = 0.15
THROTTLED_PERIODS: Final = 0.10
THROTTLED_SHARE: Final = 0.05
RUN_DELAY_SHARE: Final = 0.25
RUNNABLE_PER_CPU: Final = 1.75
GIL_SHARE: Final = 0.15
DISK_SHARE: Final = 0.15


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def loader_bound(f: Features) -> Hypothesis | None:
    """The training loop waits for its input."""
    if not f.has("share_loader") or f["share_loader"] < LOADER_SHARE:
        return None
    share = f["share_loader"]
    evidence = [f"the training thread waits for its next batch in {_percent(share)} of the step"]
    if f.has("iteration_time_s"):
        evidence.append(f"{1000 * share * f['iteration_time_s']:.1f} ms of a {1000 * f['iteration_time_s']:.1f} ms step")
    idle_cpus = f["cpu_granted"] - f["cpu_used"] if f.has("cpu_granted", "cpu_used") else None
    if idle_cpus is not None:
        evidence.append(f"the job uses {f['cpu_used']:.1f} of {f['cpu_granted']:.1f} CPUs granted")
    if idle_cpus is not None and idle_cpus >= 0.5:
        suggestion = "Load in more worker processes (num_workers) and further ahead (prefetch_factor): CPUs are free."
    else:
        suggestion = (
            "All CPUs are busy: make each sample cheaper (decode once, cache, smaller augmentations, faster codec) "
            "or give the job more CPUs; more workers alone will not help."
        )
    return Hypothesis(
        id=FindingId.LOADER_BOUND,
        title="The training loop waits for its data loader",
        lost=share,
        metric="share_loader",
        value=share,
        reference=LOADER_SHARE,
        evidence=evidence,
        suggestion=suggestion,
    )


def cpu_quota(f: Features) -> Hypothesis | None:
    """The control group's CFS quota holds the job's threads back."""
    if not f.has("cpu_throttled_periods", "cpu_throttled_share"):
        return None
    periods, held = f["cpu_throttled_periods"], f["cpu_throttled_share"]
    if periods < THROTTLED_PERIODS or held < THROTTLED_SHARE:
        return None
    evidence = [
        f"the quota was used up in {_percent(periods)} of its periods",
        f"runnable threads were held back in {_percent(held)} of the time",
    ]
    if f.has("cpu_granted", "num_cores"):
        evidence.append(f"{f['cpu_granted']:.2f} CPUs granted on a host with {f['num_cores']:.0f}")
    return Hypothesis(
        id=FindingId.CPU_QUOTA,
        title="The container's CPU limit slows the job",
        lost=min(held, periods, 0.9),
        metric="cpu_throttled_periods",
        value=periods,
        reference=THROTTLED_PERIODS,
        evidence=evidence,
        suggestion="Raise or remove the CPU limit (requests keep their guarantee), or run fewer threads than CPUs granted.",
        explains=(FindingId.LOADER_BOUND, FindingId.THREAD_OVERSUBSCRIPTION, FindingId.GIL_BOUND),
    )


def thread_oversubscription(f: Features) -> Hypothesis | None:
    """More threads want to run than there are CPUs."""
    if not f.has("run_delay_share", "runnable_per_cpu"):
        return None
    delay, runnable = f["run_delay_share"], f["runnable_per_cpu"]
    if delay < RUN_DELAY_SHARE or runnable < RUNNABLE_PER_CPU:
        return None
    if f.get("cpu_throttled_periods") >= THROTTLED_PERIODS and f.get("cpu_throttled_share") >= THROTTLED_SHARE:
        return None
    evidence = [
        f"{f.get('runnable'):.1f} threads want to run on {f.get('cpu_granted'):.1f} CPUs",
        f"threads waited for a CPU in {_percent(delay)} of the time they wanted one",
    ]
    if f.has("threads"):
        evidence.append(f"{f['threads']:.0f} threads in the job's processes")
    return Hypothesis(
        id=FindingId.THREAD_OVERSUBSCRIPTION,
        title="More threads than CPUs: they take turns",
        lost=min(delay * 0.8, 0.9),
        metric="runnable_per_cpu",
        value=runnable,
        reference=RUNNABLE_PER_CPU,
        evidence=evidence,
        suggestion="Set OMP_NUM_THREADS / torch.set_num_threads so that threads × processes equals the CPUs granted.",
        explains=(FindingId.LOADER_BOUND,),
    )


def gil_bound(f: Features) -> Hypothesis | None:
    """Python threads contend for the interpreter lock."""
    if not f.has("wait_gil") or f["wait_gil"] < GIL_SHARE:
        return None
    share = f["wait_gil"]
    return Hypothesis(
        id=FindingId.GIL_BOUND,
        title="Python threads take turns at the interpreter lock",
        lost=share,
        metric="wait_gil",
        value=share,
        reference=GIL_SHARE,
        evidence=[
            f"the training thread waits for the interpreter lock in {_percent(share)} of the step",
            f"the process uses {f.get('cpu_used'):.1f} CPUs" if f.has("cpu_used") else "other threads run Python code meanwhile",
        ],
        suggestion=(
            "Move the threads' Python work into processes (multiprocessing, DataLoader workers) "
            "or into code that releases the lock."
        ),
        explains=(FindingId.LOADER_BOUND,),
    )


def disk_bound(f: Features) -> Hypothesis | None:
    """The training loop waits for storage."""
    if not f.has("share_disk") or f["share_disk"] < DISK_SHARE:
        return None
    share = f["share_disk"]
    evidence = [f"the training thread waits for storage in {_percent(share)} of the step"]
    moved = f.get("disk_read") + f.get("disk_write")
    if moved:
        evidence.append(f"{f.get('disk_read') / 1e6:.1f} MB/s read and {f.get('disk_write') / 1e6:.1f} MB/s written by the job")
    if f.has("disk_busy"):
        evidence.append(f"the busiest device works {_percent(f['disk_busy'])} of the time")
    return Hypothesis(
        id=FindingId.DISK_BOUND,
        title="The training loop waits for storage",
        lost=share,
        metric="share_disk",
        value=share,
        reference=DISK_SHARE,
        evidence=evidence,
        suggestion=(
            "Read ahead in other threads or processes, cache the data set in memory, "
            "or write checkpoints and logs asynchronously."
        ),
        explains=(FindingId.LOADER_BOUND,),
    )


RULES: Final[tuple[Rule, ...]] = (cpu_quota, thread_oversubscription, gil_bound, disk_bound, loader_bound)


def rank_hypotheses(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Strongest first; a symptom comes right behind the cause that explains it."""
    explained = {symptom for one in hypotheses for symptom in one.explains}
    return sorted(hypotheses, key=lambda one: (one.id in explained, -one.lost))


def explain(report: Report, rules: Sequence[Rule] = RULES) -> list[FindingItem]:
    """What limits the job, strongest first; empty when nothing stands out or nothing was measured."""
    features = Features(report.features)
    claims = [claim for rule in rules if (claim := rule(features)) is not None]
    return [claim.finding(report.run.rank) for claim in rank_hypotheses(claims)]
