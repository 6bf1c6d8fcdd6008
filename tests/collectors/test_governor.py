"""The governor: inside the budget it does nothing, above it it sheds in order, and it gives back without flapping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collector import CollectorStats
from sofa_otel.exporters.governor import ORDER, WINDOW_NS, Governor


class Job:
    """A target that uses one core, and collectors that cost what the governor's requests leave of them."""

    def __init__(self, governor: Governor, **rates: float) -> None:
        self.governor = governor
        self.full = rates
        self.rates = dict(rates)
        self.total = dict.fromkeys(rates, 0.0)
        self.windows = 0
        self.requests: list[CaptureRequest] = []

    def run(self, windows: int) -> list[CaptureRequest]:
        out = []
        for _ in range(windows):
            for name, rate in self.rates.items():
                self.total[name] += rate * 5
            stats = {name: CollectorStats(cpu_s=cost / 2, target_cpu_s=cost / 2) for name, cost in self.total.items()}
            out += self.governor.observe(1 + self.windows * WINDOW_NS, self.windows * 5.0, stats)
            self.windows += 1
        self.requests += out
        return out


def test_inside_the_budget_nothing_happens() -> None:
    job = Job(Governor(), probe=0.004, proc=0.002, perf_syscalls=0.002)
    assert job.run(50) == []
    assert job.governor.shed() == []


def test_it_sheds_the_least_valuable_that_costs_something() -> None:
    job = Job(Governor(), probe=0.004, pyspy=0.0005, perf_syscalls=0.05)
    first, second = job.run(5)
    assert (first.source, first.rate_hz) == ("perf_syscalls", 20_000), "py-spy causes less than a tenth"
    assert (second.source, second.rate_hz) == ("perf_syscalls", 5_000)
    assert "CPU s used" in first.reason
    job.rates["pyspy"] = 0.05
    (third,) = job.run(2)
    assert (third.source, third.mode, third.rate_hz) == ("pyspy", "wide", 20)


def test_one_window_above_is_no_reason() -> None:
    job = Job(Governor(), probe=0.004)
    job.run(3)
    job.rates["probe"] = 0.05
    job.run(1)
    job.rates["probe"] = 0.004
    assert job.run(10) == []


def test_everything_has_an_end_and_the_probe_stays_on() -> None:
    job = Job(Governor(), probe=0.5, pyspy=0.5, perf_syscalls=0.5)
    job.run(100)
    assert [(r.source, r.rate_hz if r.mode != "off" else 0) for r in job.requests] == [(s.source, s.rate_hz) for s in ORDER]
    assert job.governor.shed() == [
        "Python stacks of processes without a probe: off",
        "system calls: off",
        "Python stacks: 10 samples/s",
    ]
    assert job.requests[-1].mode != "off"


def test_it_gives_back_and_waits_longer_each_time() -> None:
    job = Job(Governor(), probe=0.001, perf_syscalls=0.05)
    waits, previous = [], 0
    for _ in range(600):
        for request in job.run(1):
            limited = request.rate_hz > 0
            job.rates["perf_syscalls"] = 0.002 if limited else 0.05
            if not limited:
                waits.append(job.windows - previous)
            previous = job.windows
    assert len(waits) >= 4
    assert waits == sorted(waits)
    assert waits[1] >= 2 * waits[0] - 1
    assert waits[-1] <= 6 * 16


def test_a_sleeping_job_is_still_seen() -> None:
    governor = Governor()
    stats = 0.0
    for window in range(20):
        stats += 0.004 * 5
        assert governor.observe(1 + window * WINDOW_NS, 0.0, {"probe": CollectorStats(cpu_s=stats)}) == []


def test_the_operators_wishes_pass_through_with_the_limit_kept() -> None:
    job = Job(Governor(), probe=0.001, perf_syscalls=0.05)
    wide = CaptureRequest(source="perf_syscalls", mode="wide")
    assert job.governor.note(wide) is wide
    job.run(3)
    names = [("futex", "syscall", "", 0)]
    narrow = CaptureRequest(source="perf_syscalls", mode="narrow", names=names, reason="locked")
    passed = job.governor.note(narrow)
    assert (passed.mode, passed.names, passed.rate_hz, passed.reason) == ("narrow", names, 20_000, "locked")
    job.run(20)
    assert job.governor.note(narrow).mode == "off"
    assert job.governor.note(CaptureRequest(source="probe", mode="wide", rate_hz=7)).rate_hz == 7, "another source is free"


@given(st.lists(st.dictionaries(st.sampled_from(["probe", "pyspy", "perf_syscalls", "proc"]), st.floats(0, 2)), max_size=60))
def test_any_course_of_costs_keeps_the_order(course: list[dict[str, float]]) -> None:
    governor = Governor()
    totals: dict[str, float] = {}
    for window, costs in enumerate(course):
        for name, cost in costs.items():
            totals[name] = totals.get(name, 0.0) + cost
        stats = {name: CollectorStats(cpu_s=total) for name, total in totals.items()}
        requests = governor.observe(1 + window * WINDOW_NS, float(window), stats)
        assert len(requests) <= 1
        for request in requests:
            assert request.source in {"probe", "pyspy", "perf_syscalls"}
            assert not (request.source == "probe" and request.mode == "off")
    assert len(governor.shed()) <= 3
