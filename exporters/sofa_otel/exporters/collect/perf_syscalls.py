"""System calls of the target by the kernel's own tracepoints, opened directly: no tool runs, and nothing outlives this process.

A system call is where a program meets the world, so this stream shows waiting, reading and synchronising of any program in any
language. *Wide* it holds every call with duration, bytes and descriptor; *narrow* the kernel itself filters for the few calls
that the detector follows, and hands over nothing else.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import RequirementError
from sofa_otel.core.kinds import Futex, Kind
from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect.kernel_file import read_text
from sofa_otel.exporters.collect.perf_capture import MAX_RATE_HZ, Plan, RateGuard, Wishes
from sofa_otel.exporters.collect.perf_event import Event
from sofa_otel.exporters.collect.perf_pairing import Calls, Pairing, entries
from sofa_otel.exporters.collect.perf_session import PerfSession
from sofa_otel.exporters.collect.ranks import Ranks
from sofa_otel.exporters.collect.syscall_names import ON_DESCRIPTOR, TRANSFERS, table_for
from sofa_otel.exporters.collect.tracefs import tracefs_problem, tracepoint_id
from sofa_otel.exporters.collector import Capability, CollectorStats, Sink, Target

TARGET_COST_S: Final = 6.2e-7
"""CPU seconds that a record costs inside the target (benchmarks/perf_syscalls_cost.py)."""

_GUARD_NS: Final = 1_000_000
"""Records younger than this may not be complete in all rings yet."""

_CLOCK_NS: Final = 5_000_000_000
_ROUND_NS: Final = 500_000_000
_SIZE: Final = 1024
"""Call numbers above this are named by number."""

_FUTEX_KINDS: Final = np.full(128, Futex.WAKE, np.uint8)
"""Subkind by futex(2) operation. WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI and LOCK_PI2 wait."""
_FUTEX_KINDS[[0, 6, 9, 11, 13]] = Futex.WAIT

_LONGEST_S: Final = 0.4
_SHORTEST_S: Final = 0.05

_CAP_SYS_ADMIN: Final = 21
_CAP_PERFMON: Final = 38


def capabilities(root: str = "/") -> int:
    """Effective capabilities of the reading process as a bit set."""
    for line in read_text(os.path.join(root, "proc/self/status")).splitlines():
        if line.startswith("CapEff:"):
            return int(line[7:], 16)
    return 0


class PerfSyscallsCollector:
    """``raw_syscalls`` tracepoints of the target's tree.

    Args:
        root: Prefix of ``/proc`` and ``/sys`` for :meth:`probe`.
        max_rate_hz: Records a second above which the guard sheds; a request with ``rate_hz`` lowers it.

    Attributes:
        interval_s: A poll costs half a millisecond whatever it finds, so it is as long as the rings allow and changes with the
            rate of calls. Read it after each poll.
    """

    name = "perf_syscalls"
    interval_s = _LONGEST_S
    provides = "every system call with duration, bytes and descriptor"

    def __init__(self, root: str = "/", max_rate_hz: float = MAX_RATE_HZ) -> None:
        self.root = root
        self._max_rate_hz = max_rate_hz
        self._target: Target | None = None
        self._sink: Sink | None = None
        self._session: PerfSession | None = None
        self._events = self._dropped = self._records = 0
        self._cpu_s = 0.0
        self._seq = 0

    def probe(self) -> Capability:
        """Looks at perf_event_paranoid, capabilities and tracefs, then opens (and closes) one event on this thread."""
        missing: list[str] = []
        remedies: list[str] = []
        names = table_for()
        if names is None:
            return self._unusable(
                "the system call table of this processor is not known", "use the in-process probe (--collect probe)"
            )
        problem, remedy = tracefs_problem(self.root)
        if problem:
            missing.append(problem)
            remedies.append(remedy)
        paranoid = read_text(os.path.join(self.root, "proc/sys/kernel/perf_event_paranoid")).strip()
        allowed = capabilities(self.root) >> _CAP_PERFMON & 1 or capabilities(self.root) >> _CAP_SYS_ADMIN & 1
        if not paranoid:
            missing.append("this kernel has no perf events")
            remedies.append("use a kernel with CONFIG_PERF_EVENTS")
        elif not allowed and int(paranoid) > 1:
            missing.append(f"kernel.perf_event_paranoid is {paranoid} and this process has no CAP_PERFMON")
            remedies.append("run as root, or give CAP_PERFMON (containers: capabilities.add [PERFMON])")
        if not missing:
            try:
                Event(tracepoint_id("raw_syscalls", "sys_enter", self.root), 0, -1).close()
            except OSError as error:
                missing.append(f"perf_event_open is refused ({error.strerror})")
                remedies.append("allow perf_event_open in the container's seccomp profile and give CAP_PERFMON")
        if missing:
            return self._unusable("; ".join(missing), "; ".join(remedies))
        return Capability(usable=True, provides=self.provides, privilege="CAP_PERFMON")

    def _unusable(self, missing: str, remedy: str) -> Capability:
        return Capability(usable=False, provides=self.provides, missing=missing, remedy=remedy, privilege="CAP_PERFMON")

    def environment(self) -> dict[str, str]:
        """Nothing is needed inside the target."""
        return {}

    def start(self, target: Target, sink: Sink) -> None:
        """Attach to every thread of the target's tree; what they start later is covered too.

        The target may be a child that waits before its exec.
        """
        began = time.thread_time()
        self.stop()
        names = table_for()
        enter_id = tracepoint_id("raw_syscalls", "sys_enter", self.root)
        if not enter_id or names is None:
            capability = self.probe()
            raise RequirementError(f"perf_syscalls: {capability.missing}", capability.remedy)
        self._target, self._sink = target, sink
        numbers = {name: number for number, name in names.items()}
        self._names = names
        self._symbol_of = np.zeros(_SIZE + 1, np.uint32)
        self._transfers, self._on_descriptor = _flags(numbers, TRANSFERS), _flags(numbers, ON_DESCRIPTOR)
        self._futex, self._futex_wait, self._futex_wake = (numbers.get(n, -1) for n in ("futex", "futex_wait", "futex_wake"))
        self._pairing = Pairing(frozenset(numbers[name] for name in ("exit", "exit_group", "rt_sigreturn") if name in numbers))
        self._wishes, self._guard = Wishes(numbers), RateGuard(self._max_rate_hz)
        self._ranks, self._seen_ranks = Ranks(target.root, target.rank), {target.rank}
        self._plan = Plan()
        self._offset_ns, self._clock_due = _clock_offset(), time.monotonic_ns() + _CLOCK_NS
        self._round_ns, self._round_records = time.monotonic_ns(), 0
        self._round_ids: list[NDArray[np.int64]] = []
        self._check_ns = 0
        try:
            session = PerfSession(enter_id, tracepoint_id("raw_syscalls", "sys_exit", self.root), target.root, target.pid)
        except OSError as error:
            raise RequirementError(
                f"perf_syscalls: perf_event_open: {error.strerror}", self.probe().remedy or "run as root"
            ) from error
        self._session = session
        if session.refused:
            sink.warn(
                f"perf_syscalls: {session.refused} threads are not watched, the limit on open files is too low\n"
                "  → raise it (ulimit -n 65536), or start the job with sofa run instead of attaching"
            )
        self._cpu_s += time.thread_time() - began

    def request(self, request: CaptureRequest) -> None:
        """``wide`` (or ``raw``), ``narrow`` to the system calls in ``names``, ``off``; for one process's rank or for all.

        ``rate_hz`` sets the guard's limit on records a second, 0 the collector's own.
        """
        if self._session is None:
            return
        self._guard.limit_hz = min(request.rate_hz or self._max_rate_hz, self._max_rate_hz)
        rank = self._ranks.of(request.pid, time.time_ns()) if request.pid else None
        self._wishes.ask(request, rank)
        self._apply(time.time_ns())

    def poll(self, now_ns: int) -> None:
        """Deliver the calls that have ended; a call that stays open is delivered in slices of a second."""
        if self._session is None:
            return
        began = time.thread_time()
        try:
            self._collect(now_ns, time.monotonic_ns() - _GUARD_NS)
            self._apply(now_ns)
        finally:
            self._cpu_s += time.thread_time() - began

    def stats(self) -> CollectorStats:
        """Rows delivered, records the kernel lost, CPU seconds here and (estimated by a measured cost a record) in the target."""
        return CollectorStats(
            events=self._events, dropped=self._dropped, cpu_s=self._cpu_s, target_cpu_s=self._records * TARGET_COST_S
        )

    def stop(self) -> None:
        """Deliver what is left and drop all events."""
        session, self._session = self._session, None
        if session is None:
            return
        began = time.thread_time()
        session.pause()
        self._session = session
        try:
            self._collect(time.time_ns(), time.monotonic_ns() + 1)
        finally:
            self._session = None
            session.close()
            self._sink = None
            self._cpu_s += time.thread_time() - began

    def _collect(self, now_ns: int, cut: int) -> None:
        session, sink = self._session, self._sink
        if session is None or sink is None:
            return
        entered, left, lost = session.take()
        if lost:
            self._dropped += lost
            sink.warn("perf_syscalls: the kernel lost system calls because its buffer was full; counts are too low")
        self._records += len(entered) + len(left)
        fill = session.fill(len(entered), len(left))
        if fill > 0.25:
            self.interval_s = max(self.interval_s / 2, _SHORTEST_S)
        elif fill < 0.1:
            self.interval_s = min(self.interval_s * 1.5, _LONGEST_S)
        self._watch_rate(entered["id"], len(entered) + len(left))
        if self._plan.exits or len(left):
            calls = self._pairing.join(entries(entered), left, cut)
        else:
            calls = self._pairing.only_entries(entries(entered), cut)
        self._forget_dead(now_ns)
        if len(calls.start):
            self._deliver(sink, calls, now_ns)

    def _deliver(self, sink: Sink, calls: Calls, now_ns: int) -> None:
        target = self._target
        assert target is not None
        if time.monotonic_ns() > self._clock_due:
            self._offset_ns, self._clock_due = _clock_offset(), time.monotonic_ns() + _CLOCK_NS
        number = np.clip(calls.id, -1, _SIZE)  # -1: a call that seccomp or a debugger skipped
        good = number >= 0
        number[~good] = _SIZE
        returned = np.where(self._transfers[number] & (calls.ret > 0), calls.ret, 0)
        columns: dict[str, NDArray[Any]] = {
            "start_ns": calls.start + self._offset_ns,
            "duration_ns": calls.duration,
            "kind": np.full(len(number), Kind.SYSCALL, np.uint8),
            "subkind": self._subkinds(calls),
            "name": self._symbols(sink, number),
            "pid": calls.pid,
            "tid": calls.tid,
            "cpu": calls.cpu,
            "peer": np.where(self._on_descriptor[number], calls.arg0 & np.uint64(0xFFFFFFFF), 0).astype(np.uint32),
            "bytes": returned.astype(np.int64),
        }
        pids = np.unique(calls.pid)
        ranks = np.array([self._ranks.of(int(pid), now_ns) for pid in pids], np.int64)
        row_rank = ranks[np.searchsorted(pids, calls.pid)]
        for rank in np.unique(ranks).tolist():
            self._seen_ranks.add(rank)
            mask = good & (row_rank == rank)
            if not mask.any():
                continue
            header = BatchHeader(job=target.job, rank=rank, host=target.host, source=self.name, seq=self._seq)
            part = columns if mask.all() else {key: column[mask] for key, column in columns.items()}
            batch = EventBatch.build(header, sink.tables, **part)
            self._seq += 1
            self._events += len(batch)
            sink.events(batch)

    def _symbols(self, sink: Sink, number: NDArray[np.int64]) -> NDArray[np.uint32]:
        for one in np.flatnonzero((np.bincount(number, minlength=_SIZE + 1) > 0) & (self._symbol_of == 0)).tolist():
            self._symbol_of[one] = sink.tables.symbols.intern(self._names.get(one, f"syscall_{one}"), "syscall")
        return self._symbol_of[number]

    def _subkinds(self, calls: Calls) -> NDArray[np.uint8]:
        out = np.zeros(len(calls.id), np.uint8)
        futex = calls.id == self._futex
        out[futex] = _FUTEX_KINDS[(calls.arg1[futex] & np.uint64(127)).astype(np.intp)]
        out[calls.id == self._futex_wait] = Futex.WAIT
        out[calls.id == self._futex_wake] = Futex.WAKE
        return out

    def _watch_rate(self, ids: NDArray[Any], records: int) -> None:
        self._round_records += records
        self._round_ids.append(ids)
        now = time.monotonic_ns()
        elapsed = now - self._round_ns
        if elapsed < _ROUND_NS:
            return
        rate = self._round_records * 1e9 / elapsed
        changed = self._guard.observe(rate, np.concatenate(self._round_ids), self._wishes.asked())
        self._round_ns, self._round_records, self._round_ids = now, 0, []
        if changed and self._sink is not None:
            limit = self._guard.limit_hz
            dropped = ", ".join(self._names.get(number, str(number)) for number in sorted(self._guard.without))
            self._sink.warn(
                f"perf_syscalls: {changed}{f' ({dropped})' if dropped else ''}: {rate:,.0f} records/s, limit {limit:,.0f}"
            )

    def _apply(self, now_ns: int) -> None:
        session = self._session
        if session is None:
            return
        plan = self._guard.apply(self._wishes.plan(self._seen_ranks, now_ns), self._wishes.asked())
        if plan == self._plan:
            return
        if not plan.on:
            session.pause()
        elif plan.filter:
            session.keep_only(plan.filter, self._ranks.pids)
        else:
            session.keep_all(exits=plan.exits)
        self._plan = plan

    def _forget_dead(self, now_ns: int) -> None:
        """Once a second: threads that were killed inside a call will never leave it."""
        waiting = self._pairing.open_calls
        if not len(waiting) or now_ns - self._check_ns < 1_000_000_000:
            return
        self._check_ns = now_ns
        root = self._target.root if self._target else "/"
        dead = [
            tid
            for pid, tid in zip(waiting["pid"].tolist(), waiting["tid"].tolist(), strict=True)
            if not os.path.exists(os.path.join(root, "proc", str(pid), "task", str(tid)))
        ]
        if dead:
            self._pairing.drop(np.array(dead, np.uint32))


def _flags(numbers: dict[str, int], wanted: frozenset[str]) -> NDArray[np.bool_]:
    out = np.zeros(_SIZE + 1, bool)
    out[[numbers[name] for name in wanted if name in numbers]] = True
    return out


def _clock_offset() -> int:
    """CLOCK_REALTIME − CLOCK_MONOTONIC in nanoseconds, from the tightest of five pairs."""
    best = (1 << 62, 0)
    for _ in range(5):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        best = min(best, (after - before, real - (before + after) // 2))
    return best[1]
