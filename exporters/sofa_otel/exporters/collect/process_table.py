"""One process as ``/proc`` shows it, and the rule by which a pid belongs to the target's tree.

Reading costs what the kernel needs to print, so a process keeps its descriptors open, threads are listed again only when their
number changed, and only *new* pids of the host are looked at to find children.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from sofa_otel.exporters.collect.kernel_file import KernelFile, read_text

THREAD_FILES: Final = 400
"""Descriptors kept for threads over the whole tree; threads beyond it are opened for each reading."""


class ProcessStat(NamedTuple):
    """The fields of ``/proc/PID/stat`` that we use; times in clock ticks, ``rss`` in pages. See proc(5)."""

    comm: str
    state: str
    ppid: int
    session: int
    minor: int
    child_minor: int
    major: int
    child_major: int
    utime: int
    stime: int
    child_utime: int
    child_stime: int
    threads: int
    start: int
    rss: int


def parse_stat(data: bytes) -> ProcessStat | None:
    """Fields of a ``stat`` line; None when it is empty or cut. The name may hold anything, also blanks and brackets."""
    close = data.rfind(b")")
    fields = data[close + 2 :].split(b" ", 22)
    if close < 0 or len(fields) < 22:
        return None
    f = fields
    try:
        return ProcessStat(
            data[data.find(b"(") + 1 : close].decode("utf-8", "replace"), f[0].decode("ascii", "replace"),
            int(f[1]), int(f[3]), int(f[7]), int(f[8]), int(f[9]), int(f[10]),
            int(f[11]), int(f[12]), int(f[13]), int(f[14]), int(f[17]), int(f[19]), int(f[21]),
        )  # fmt: skip
    except ValueError:
        return None


def parse_io(data: bytes) -> tuple[int, int]:
    """``(read_bytes, write_bytes)`` of ``/proc/PID/io``: what went to or came from disks; zeros when it is not readable."""
    read = data.find(b"\nread_bytes: ")
    write = data.find(b"\nwrite_bytes: ")
    if read < 0 or write < 0:
        return 0, 0
    return int(data[read + 13 : data.find(b"\n", read + 1)]), int(data[write + 14 : data.find(b"\n", write + 1)])


def parse_switches(status: bytes) -> tuple[int, int]:
    """``(voluntary, involuntary)`` context switches of one thread's ``status``."""
    voluntary = status.find(b"\nvoluntary_ctxt_switches:")
    involuntary = status.find(b"\nnonvoluntary_ctxt_switches:")
    if voluntary < 0 or involuntary < 0:
        return 0, 0
    return int(status[voluntary + 25 : involuntary]), int(status[involuntary + 28 :].split(None, 1)[0])


class _Thread:
    __slots__ = ("delay", "file", "run", "switches")

    def __init__(self, file: KernelFile) -> None:
        self.file = file
        self.run = 0
        self.delay = 0
        self.switches = (0, 0)


class Process:
    """A process of the tree with its last reading and the totals of its threads, gone ones included.

    Attributes:
        stat: Last reading of ``stat``.
        read_bytes, write_bytes: Last reading of ``io``. The kernel adds a child's to its parent's when it is waited for.
        run_ns, delay_ns: CPU time and run-queue wait of all threads (``schedstat``).
        voluntary, involuntary: Context switches of all threads, refreshed by :meth:`read_switches`.
    """

    def __init__(self, root: str, pid: int) -> None:
        self.pid = pid
        self._directory = os.path.join(root, "proc", str(pid))
        self._stat = KernelFile(f"{self._directory}/stat")
        self._io = KernelFile(f"{self._directory}/io")
        self._threads: dict[str, _Thread] = {}
        self._listed = -1
        self.stat: ProcessStat | None = None
        self.read_bytes = self.write_bytes = 0
        self.run_ns = self.delay_ns = 0
        self.voluntary = self.involuntary = 0

    @property
    def thread_files(self) -> int:
        """Descriptors that threads may hold."""
        return len(self._threads)

    def read(self, spare_files: int) -> bool:
        """Read everything but context switches. False when the process has gone; the last reading then stays."""
        stat = parse_stat(self._stat.read())
        if stat is None:
            return False
        self.stat = stat
        if stat.state in "ZX" and stat.threads <= 1:
            return True
        self.read_bytes, self.write_bytes = max((self.read_bytes, self.write_bytes), parse_io(self._io.read()))
        if stat.threads != self._listed:
            self._list_threads(spare_files)
            self._listed = stat.threads
        for tid, thread in list(self._threads.items()):
            fields = thread.file.read().split()
            if len(fields) < 2:
                thread.file.close()
                del self._threads[tid]
                self._listed = -1
                continue
            run, delay = int(fields[0]), int(fields[1])
            self.run_ns += run - thread.run
            self.delay_ns += delay - thread.delay
            thread.run, thread.delay = run, delay
        return True

    def read_switches(self) -> None:
        """Add what each thread switched since the last call (twenty microseconds a thread: call it seldom)."""
        for tid, thread in self._threads.items():
            voluntary, involuntary = parse_switches(KernelFile(f"{self._directory}/task/{tid}/status", keep=False).read())
            if voluntary or involuntary:
                self.voluntary += voluntary - thread.switches[0]
                self.involuntary += involuntary - thread.switches[1]
                thread.switches = (voluntary, involuntary)

    def reaps_silently(self) -> bool:
        """Whether it ignores SIGCHLD: its children's totals are then never added to its own (bit 16 of ``SigIgn``)."""
        for line in read_text(f"{self._directory}/status").splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line[7:], 16) >> 16 & 1)
        return False

    def close(self) -> None:
        """Close every descriptor."""
        self._stat.close()
        self._io.close()
        for thread in self._threads.values():
            thread.file.close()
        self._threads.clear()

    def _list_threads(self, spare_files: int) -> None:
        try:
            tids = os.listdir(f"{self._directory}/task")
        except OSError:
            return
        for tid in tids:
            if tid not in self._threads:
                keep = len(self._threads) < spare_files
                self._threads[tid] = _Thread(KernelFile(f"{self._directory}/task/{tid}/schedstat", keep=keep))


class ProcessTree:
    """The pids of a target and of everything that it started, also when the starter has gone.

    A new pid belongs to the tree when its parent does, or when its session was opened by a member (a daemon that was re-parented
    before we saw it). What is once a member stays one.
    """

    def __init__(self, root: str, pid: int) -> None:
        self._root = root
        self._proc = os.path.join(root, "proc")
        self._seen: set[str] = set()
        self._sessions = {pid}
        self.members: dict[int, Process] = {pid: Process(root, pid)}

    def discover(self) -> None:
        """Look at pids that are new on the host since the last call."""
        try:
            listed = {name for name in os.listdir(self._proc) if name.isdecimal()}
        except OSError:
            return
        new = [int(name) for name in listed - self._seen]
        self._seen = listed
        parents: dict[int, tuple[int, int]] = {}
        for pid in new:
            if pid not in self.members:
                stat = parse_stat(KernelFile(f"{self._proc}/{pid}/stat", keep=False).read())
                if stat is not None:
                    parents[pid] = (stat.ppid, stat.session)
        found = True
        while found:
            # Pids wrap, so a child's may be smaller than its parent's: repeat until nothing new joins.
            found = False
            for pid, (ppid, session) in list(parents.items()):
                if ppid in self.members or session in self._sessions:
                    self.members[pid] = Process(self._root, pid)
                    self._sessions.add(pid)
                    del parents[pid]
                    found = True

    def drop(self, pid: int) -> None:
        """Forget a member that has gone. Its session stays known: others may live in it."""
        self.members.pop(pid).close()
        self._seen.discard(str(pid))

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self.members.values()))

    def close(self) -> None:
        """Close every descriptor."""
        for process in self.members.values():
            process.close()
        self.members.clear()
