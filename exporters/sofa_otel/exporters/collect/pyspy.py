"""Python stacks from outside, for processes that the in-process probe cannot enter: ``attach``, ``python -I -E``, ``env -i``.

py-spy runs as a process of its own, for a chunk of two seconds at a time, into memory: it dies with us (PR_SET_PDEATHSIG),
leaves no file, and can be ended at once. Measured at 100 samples/s of five threads: 7 % of a core for py-spy, no measurable
change of the target's step time; hence 50 samples/s by default and the governor's right to lower it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect.kernel_file import KernelFile, read_text
from sofa_otel.exporters.collect.process_table import ProcessTree
from sofa_otel.exporters.collect.pyspy_trace import parse_trace
from sofa_otel.exporters.collect.ranks import Ranks
from sofa_otel.exporters.collector import Capability, CollectorStats, Sink, Target

CHUNK_S: Final = 2.0
RATE_HZ: Final = 50.0
_AT_ONCE: Final = 4
_GRACE_NS: Final = 2_000_000_000
"""A process gets this long to let its probe be known, and to exec."""
_PROBE_GRACE_NS: Final = 20_000_000_000
"""The same where a probe was sent along: threads that fight for the interpreter lock can keep it from its first word for long."""

_FAILURES: Final = 3
_PR_SET_PDEATHSIG: Final = 1
_CAP_SYS_PTRACE: Final = 19

_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def find_pyspy() -> str:
    """Path of the program: beside our own interpreter (the extra [run]), else on PATH; empty when there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy") or ""


class _Chunk:
    """A running py-spy and the memory that it will write to."""

    def __init__(self, program: str, pid: int, rate_hz: float) -> None:
        self.memory = os.memfd_create("py-spy", 0)
        options = f"--format chrometrace --threads --idle --full-filenames --duration {CHUNK_S:.0f} --rate {rate_hz:.0f}"
        command = [program, "record", "--pid", str(pid), "--output", f"/proc/self/fd/{self.memory}", *options.split()]
        self.rate_hz = rate_hz
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(self.memory,),
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl; there is no other way to set it for a child
            )
        except OSError:
            os.close(self.memory)
            raise
        # Popen returns when the exec has happened; py-spy counts its microseconds from there.
        self.origin_ns = time.time_ns()

    def ended(self) -> tuple[bytes, float] | None:
        """``(what it wrote, CPU seconds it used)`` once it has ended, empty bytes when it failed; None while it runs."""
        try:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status, usage = self.process.pid, 1, None
        if not pid:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        data = b""
        if self.process.returncode == 0:
            data = os.pread(self.memory, os.fstat(self.memory).st_size, 0)
        os.close(self.memory)
        return data, usage.ru_utime + usage.ru_stime if usage is not None else 0.0

    def kill(self) -> float:
        """End it now; CPU seconds it used."""
        try:
            self.process.kill()
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
        except (ChildProcessError, ProcessLookupError):
            self.process.returncode = -signal.SIGKILL
            usage = None
        os.close(self.memory)
        return usage.ru_utime + usage.ru_stime if usage is not None else 0.0


class PySpyCollector:
    """Samples of every Python process of the tree that has no probe.

    Attributes:
        has_probe: Asked for each process; the host of the collectors sets it to what the probe collector knows.
    """

    name = "pyspy"
    interval_s = 0.5
    provides = "Python stacks of processes that have no probe"

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self.has_probe: Callable[[int], bool] = lambda _pid: False
        self._sent_along: dict[int, bool] = {}
        self._target: Target | None = None
        self._sink: Sink | None = None
        self._tree: ProcessTree | None = None
        self._chunks: dict[int, _Chunk] = {}
        self._first_seen: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._python: dict[int, bool] = {}
        self._last_sample: dict[int, int] = {}
        self._rate_hz = RATE_HZ
        self._off: set[int] = set()
        self._seq = self._events = self._dropped = 0
        self._cpu_s = 0.0

    def probe(self) -> Capability:
        """Looks for the program and for the right to read another process of this user."""
        if not find_pyspy():
            return self._unusable("py-spy is not installed", "pip install 'sofa-otel[run]'")
        status = read_text(os.path.join(self.root, "proc/self/status"))
        held = next((int(line[7:], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
        if held >> _CAP_SYS_PTRACE & 1:
            return Capability(usable=True, provides=self.provides, privilege="CAP_SYS_PTRACE")
        scope = read_text(os.path.join(self.root, "proc/sys/kernel/yama/ptrace_scope")).strip()
        if scope == "3":
            return self._unusable(
                "kernel.yama.ptrace_scope is 3: no process may read another", "use the in-process probe (sofa run)"
            )
        if scope in ("1", "2"):
            return self._unusable(
                f"kernel.yama.ptrace_scope is {scope} and this process has no CAP_SYS_PTRACE",
                "run as root, give CAP_SYS_PTRACE (containers: capabilities.add [SYS_PTRACE]), or use the in-process probe",
            )
        return Capability(usable=True, provides=f"{self.provides}, of this user", privilege="same user")

    def _unusable(self, missing: str, remedy: str) -> Capability:
        return Capability(usable=False, provides=self.provides, missing=missing, remedy=remedy, privilege="CAP_SYS_PTRACE")

    def environment(self) -> dict[str, str]:
        """Nothing is needed inside the target."""
        return {}

    def start(self, target: Target, sink: Sink) -> None:
        """Begin to look for Python processes without a probe."""
        self.stop()
        self._target, self._sink = target, sink
        self._tree = ProcessTree(target.root, target.pid) if target.pid else None
        self._ranks = Ranks(target.root, target.rank)

    def request(self, request: CaptureRequest) -> None:
        """``off`` ends sampling of one process (or all) at once, any other mode resumes; ``rate_hz`` sets samples a second."""
        if request.rate_hz > 0:
            self._rate_hz = max(1.0, min(request.rate_hz, 200.0))
        if request.mode == "off":
            self._off.add(request.pid)
            for pid in list(self._chunks):
                if request.pid in (0, pid):
                    self._cpu_s += self._chunks.pop(pid).kill()
        elif request.pid:
            self._off.discard(request.pid)
        else:
            self._off.clear()

    def poll(self, now_ns: int) -> None:
        """Deliver chunks that are complete and begin the next ones."""
        tree, sink = self._tree, self._sink
        if tree is None or sink is None:
            return
        began = time.thread_time()
        for pid, chunk in list(self._chunks.items()):
            ended = chunk.ended()
            if ended is None:
                continue
            del self._chunks[pid]
            data, cpu_s = ended
            self._cpu_s += cpu_s
            self._take(sink, pid, chunk, data, now_ns)
        tree.discover()
        for pid in list(tree.members):
            if len(self._chunks) >= _AT_ONCE:
                break
            if self._wanted(tree, pid, now_ns):
                self._begin(sink, pid)
        self._cpu_s += time.thread_time() - began

    def stats(self) -> CollectorStats:
        """Samples delivered, chunks lost, CPU seconds of ours and of py-spy."""
        return CollectorStats(events=self._events, dropped=self._dropped, cpu_s=self._cpu_s)

    def stop(self) -> None:
        """Deliver chunks that are complete, kill the others."""
        for pid, chunk in list(self._chunks.items()):
            ended = chunk.ended()
            if ended is not None and self._sink is not None:
                self._cpu_s += ended[1]
                self._take(self._sink, pid, chunk, ended[0], time.time_ns())
            elif ended is None:
                self._cpu_s += chunk.kill()
        self._chunks.clear()
        if self._tree is not None:
            self._tree.close()
        self._tree = self._sink = None

    def _wanted(self, tree: ProcessTree, pid: int, now_ns: int) -> bool:
        if pid in self._chunks or pid in self._off or 0 in self._off or self._failures.get(pid, 0) >= _FAILURES:
            return False
        age_ns = now_ns - self._first_seen.setdefault(pid, now_ns)
        if age_ns < _GRACE_NS or self.has_probe(pid) or (age_ns < _PROBE_GRACE_NS and self._awaits_probe(pid)):
            return False
        if not os.path.exists(os.path.join(self.root, "proc", str(pid))):
            tree.drop(pid)
            return False
        found = self._python.get(pid)
        if found is None:
            found = self._python[pid] = self._is_python(pid)
        return found

    def _awaits_probe(self, pid: int) -> bool:
        """Whether a probe was sent along with the process."""
        if pid not in self._sent_along:
            environ = KernelFile(os.path.join(self.root, "proc", str(pid), "environ"), keep=False).read()
            self._sent_along[pid] = b"SOFA_PROBE_SOCKET=" in environ
        return self._sent_along[pid]

    def _is_python(self, pid: int) -> bool:
        try:
            program = os.readlink(os.path.join(self.root, "proc", str(pid), "exe"))
        except OSError:
            return False
        if os.path.basename(program).startswith("python"):
            return True
        return "/libpython" in read_text(os.path.join(self.root, "proc", str(pid), "maps"))

    def _begin(self, sink: Sink, pid: int) -> None:
        try:
            self._chunks[pid] = _Chunk(find_pyspy(), pid, self._rate_hz)
        except OSError as error:
            self._failures[pid] = _FAILURES
            sink.warn(f"pyspy: py-spy cannot be started: {error}")

    def _take(self, sink: Sink, pid: int, chunk: _Chunk, data: bytes, now_ns: int) -> None:
        try:
            if not data:
                raise InputError("it ended without a result")
            batch = self._batch(sink, pid, chunk, data, now_ns)
        except InputError as error:
            self._dropped += 1
            self._failures[pid] = self._failures.get(pid, 0) + 1
            if self._failures[pid] == _FAILURES and os.path.exists(os.path.join(self.root, "proc", str(pid))):
                sink.warn(f"pyspy: process {pid} cannot be sampled, it is left alone now: {error.message}")
            return
        self._failures.pop(pid, None)
        if batch is not None:
            self._events += len(batch)
            sink.events(batch)

    def _batch(self, sink: Sink, pid: int, chunk: _Chunk, data: bytes, now_ns: int) -> EventBatch | None:
        """Rows of a chunk: one a sample, at the sample's time."""
        period = int(1e9 / chunk.rate_hz)
        columns: dict[str, list[Any]] = {"start_ns": [], "duration_ns": [], "name": [], "path": [], "tid": []}
        symbols, paths = sink.tables.symbols, sink.tables.paths
        for run in parse_trace(data):
            path = paths.intern_frames([symbols.intern_symbol(frame) for frame in run.frames])
            leaf, start, end = paths.leaf(path), chunk.origin_ns + run.start_us * 1000, chunk.origin_ns + run.end_us * 1000
            count = max(1, round((end - start) / period))
            times = np.linspace(start, end, count, endpoint=False).astype(np.int64).tolist()
            for at in times:
                last = self._last_sample.get(run.tid, at - period)
                columns["start_ns"].append(at)
                columns["duration_ns"].append(min(max(at - last, 0), 10 * period))
                columns["name"].append(leaf)
                columns["path"].append(path)
                columns["tid"].append(run.tid)
                self._last_sample[run.tid] = at
        if not columns["start_ns"]:
            return None
        target = self._target
        assert target is not None
        header = BatchHeader(
            job=target.job, rank=self._ranks.of(pid, now_ns), host=target.host, source=f"{self.name}/{pid}", seq=self._seq
        )
        self._seq += 1
        order = np.argsort(np.array(columns["start_ns"], np.int64), kind="stable")
        batch = EventBatch.build(header, sink.tables, kind=Kind.PYTHON_SAMPLE, subkind=Wait.UNKNOWN, pid=pid, **columns)
        return batch.take(order)
