"""What the probe remembers of each thread of the program between two samples."""

import time

from _sofa_probe import kernel
from _sofa_probe.descriptors import close_quietly
from _sofa_probe.tables import threads_by_ident

MAX_THREADS = 128


class Thread:
    """One thread.

    Attributes:
        tid: Native id (0: not known).
        clock: Id of its CPU clock, None when it cannot be read.
        cpu, ran: Its CPU time at the last sample, and how much of it is new.
        state, path, time: Of the last sample.
        wanted_gil: It held or wanted the interpreter lock at the last sample.
        credit: CPU time not yet answered for by samples ON_CPU while several threads contend.
        idle: Samples in a row without any CPU time.
        pending: A row that may still grow: [start, weight, path, state, flags].
    """

    __slots__ = (
        "clock", "cpu", "credit", "fd", "idle", "main", "path", "pending", "ran", "seen", "state", "tid", "time", "wanted_gil",
    )  # fmt: skip

    def __init__(self, tid, main):
        self.tid = tid
        self.main = main
        # The clock id of a thread by number: unlike pthread_getcpuclockid it is an error, not a crash, for a dead one.
        self.clock = (~tid << 3) | 6 if tid else None
        self.cpu = self.ran = 0
        self.state = kernel.UNKNOWN
        self.path = 0
        self.time = 0
        self.wanted_gil = False
        self.credit = 0
        self.idle = 0
        self.fd = None
        self.pending = None
        self.seen = 0


class Threads:
    """All threads, by Python's thread ident."""

    def __init__(self, main_ident, pid):
        self.main = main_ident
        self.pid = pid
        self.by_ident = {}
        self.kernel = kernel.Kernel()
        self.skipped = 0

    def get(self, ident):
        """The record of a thread that ``sys._current_frames`` named; None when there are too many."""
        found = self.by_ident.get(ident)
        if found is None:
            if len(self.by_ident) >= MAX_THREADS:
                self.skipped += 1
                return None
            tid = self.pid if ident == self.main else threads_by_ident().get(ident) or 0
            found = self.by_ident[ident] = Thread(tid, ident == self.main)
        return found

    def cpu(self, ident, thread):
        """CPU nanoseconds of a thread, -1 when not known. A dead thread's ident may already be another thread's."""
        if thread.clock is None:
            return -1
        try:
            return time.clock_gettime_ns(thread.clock)
        except OSError:
            tid = 0 if thread.main else threads_by_ident().get(ident) or 0
            if thread.fd is not None and thread.fd >= 0:
                close_quietly(thread.fd)
            pending, seen = thread.pending, thread.seen
            thread.__init__(tid if tid != thread.tid else 0, thread.main)
            thread.pending, thread.seen = pending, seen
            return -1

    @staticmethod
    def cpu_again(thread):
        """A second reading within the same sample; -1 when the thread has ended meanwhile."""
        try:
            return time.clock_gettime_ns(thread.clock)
        except OSError:
            return -1

    def blocked_in(self, thread, now):
        """Wait value (or WANTS_GIL) by the kernel's word."""
        if thread.fd is None:
            thread.fd = self.kernel.open(thread.tid) if thread.tid else -1
        return kernel.UNKNOWN if thread.fd < 0 else self.kernel.state(thread.fd, now)

    def forget(self, alive):
        """Drop records of threads that are gone; returns them (they may have pending rows)."""
        gone = [ident for ident in self.by_ident if ident not in alive]
        return [self._drop(ident) for ident in gone]

    def _drop(self, ident):
        thread = self.by_ident.pop(ident)
        if thread.fd is not None and thread.fd >= 0:
            close_quietly(thread.fd)
            thread.fd = None
        return thread

    def close(self):
        """Release every descriptor."""
        for ident in list(self.by_ident):
            self._drop(ident)
        self.kernel.close()
