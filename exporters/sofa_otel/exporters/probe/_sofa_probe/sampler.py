"""One sample: where every thread is, and what it was doing at that instant.

While this code runs it holds the interpreter lock, so a thread that was executing Python is itself blocked on it. CPU clocks tell
such a thread from one that waits for something else, and they can be read without letting the lock go:

* its clock did not move since the last sample: it never ran, so stack and state are exactly what they were;
* its clock moves while we look: it is running native code;
* we had to wait for the lock: the thread with the most CPU time to answer for was running Python. If several threads contend, the
  one with the largest unanswered CPU time is ON_CPU and the others GIL, so that shares add up to the CPU time really used;
* otherwise the kernel is asked, last of all.
"""

import sys
import time
from _thread import get_ident
from array import array

from _sofa_probe import kernel, wire

ON_CPU, GIL, UNKNOWN = kernel.ON_CPU, kernel.GIL, kernel.UNKNOWN
LATE_NS = 1000000
IDLE_SAMPLES = 8
IDLE_STRIDE = 8
MAX_WEIGHT = 10


def _columns():
    return (array("q"), array("q"), array("I"), array("I"), array("B"), array("B"))


class Sampler:
    """Takes samples into columns until they are taken away.

    Attributes:
        running: Threads that ran between the last two samples.
        on_stack: Called with ident, native id, path id and leaf frame of every thread that has run since the last sample (the
            loop monitor's source of code objects).
    """

    def __init__(self, tables, threads):
        self.tables = tables
        self.threads = threads
        self.samples = self.late = self.rows = self.running = 0
        self.on_stack = self.on_gone = None
        self._turn = 0
        self._columns = _columns()

    def take(self, due, period, waited):
        """Sample all threads now. ``period`` in ns; ``waited``: our thread had to wait for the interpreter lock.

        True when the kernel was asked for something: the lock may have been lost meanwhile.
        """
        now = time.monotonic_ns()
        self._turn += 1
        self.samples += 1
        late = now - due > LATE_NS
        self.late += late
        seen = []
        ran = self._look(sys._current_frames(), get_ident(), seen)
        self.running = len(ran)
        for thread in seen:
            if thread.wanted_gil and thread.idle:
                # It still waits. Only another thread of the program counts as the one it waits for.
                thread.state = GIL if ran else ON_CPU
        undecided = self._undecided(ran, waited, period)
        for thread in undecided:
            # From here on the interpreter lock may be lost for a while; the instant stays what it was.
            state = self.threads.blocked_in(thread, now)
            thread.wanted_gil = state == kernel.WANTS_GIL
            if state in (kernel.WANTS_GIL, ON_CPU):
                state = GIL if waited else ON_CPU
            thread.state = state
        for thread in seen:
            self._row(thread, now, period, late)
        return bool(undecided)

    def _look(self, frames, me, seen):
        """Stacks and first clock readings; returns the threads that ran since the last sample."""
        threads, path = self.threads, self.tables.path
        skip_idle = self._turn % IDLE_STRIDE
        ran = []
        for ident, frame in frames.items():
            if ident == me:
                continue
            thread = threads.get(ident)
            if thread is None:
                continue
            thread.seen = self._turn
            if thread.idle > IDLE_SAMPLES and skip_idle and not thread.main:
                continue
            seen.append(thread)
            cpu = threads.cpu(ident, thread)
            if cpu >= 0 and cpu == thread.cpu and thread.time:
                thread.idle += 1
                continue
            thread.idle = 0
            thread.ran = cpu - (thread.cpu if thread.time else 0)
            thread.cpu = cpu
            thread.path = path(frame)
            ran.append(thread)
            if self.on_stack is not None and thread.tid:
                self.on_stack(ident, thread.tid, thread.path, frame)
        return ran

    def _undecided(self, ran, waited, period):
        """Decide by CPU clocks; returns the threads for which they do not suffice."""
        contenders = []
        for thread in ran:
            if thread.cpu >= 0:
                cpu = self.threads.cpu_again(thread)
                if cpu > thread.cpu:
                    thread.cpu, thread.state, thread.wanted_gil, thread.credit = cpu, ON_CPU, False, 0
                    continue
            contenders.append(thread)
        if not waited:
            return contenders
        runners = [thread for thread in contenders if thread.ran > 0]
        if not runners:
            return contenders
        for thread in runners:
            thread.credit = min(thread.credit + thread.ran, MAX_WEIGHT * period)
        holder = max(runners, key=_credit)
        holder.state, holder.wanted_gil = ON_CPU, True
        holder.credit = max(holder.credit - sum([thread.ran for thread in runners]), -period)
        return [thread for thread in contenders if thread is not holder]

    def _row(self, thread, now, period, late):
        weight = min(now - thread.time, MAX_WEIGHT * period) if thread.time else period
        thread.time = now
        pending = thread.pending
        if pending is not None:
            if not thread.main and pending[2] == thread.path and pending[3] == thread.state:
                pending[1] += weight
                return
            self._emit(thread)
        thread.pending = [now, weight, thread.path, thread.state, late]

    def _emit(self, thread):
        start, weight, path, state, late = thread.pending
        thread.pending = None
        for column, value in zip(self._columns, (start, weight, thread.tid, path, state, late)):
            column.append(value)
        self.rows += 1

    def forget_dead(self):
        """Drop what is known of threads that were not in the last sample."""
        by_ident = self.threads.by_ident
        alive = [ident for ident, thread in by_ident.items() if thread.seen == self._turn]
        gone = [ident for ident in by_ident if by_ident[ident].seen != self._turn]
        if self.on_gone is not None and gone:
            self.on_gone(gone)
        for thread in self.threads.forget(set(alive)):
            if thread.pending is not None:
                self._emit(thread)

    def drain(self):
        """One SAMPLES frame of everything since the last call, None when there is nothing."""
        for thread in self.threads.by_ident.values():
            if thread.pending is not None:
                self._emit(thread)
        if not self._columns[0]:
            return None
        columns, self._columns = self._columns, _columns()
        return wire.rows(wire.SAMPLES, columns)

    def restart(self):
        """After the tables were reset: nothing known holds any more."""
        for thread in self.threads.by_ident.values():
            thread.pending, thread.time, thread.path = None, 0, 0
        self._columns = _columns()


def _credit(thread):
    return thread.credit
