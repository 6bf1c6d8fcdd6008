"""The probe thread's day: sample, flush four times a second, look after counters and hooks once a second, and stop when told."""

import os
import sys
import time

from _sofa_probe import counters, hooks, identity, wire
from _sofa_probe.budget import Budget
from _sofa_probe.handover import Handover
from _sofa_probe.link import Link
from _sofa_probe.sampler import Sampler
from _sofa_probe.tables import Tables
from _sofa_probe.threads import Threads
from _sofa_probe.waits import Waits

FLUSH_NS = 250000000
SECOND_NS = 1000000000
DEFAULT_RATE = 100.0
MAX_RATE = 1000.0
WAITED_NS = 100000
EAGER_NS = 3 * SECOND_NS
"""Without exact loops the first steps are seen only if samples come fast from the start; by then the reader has an opinion."""
FULL_RESET_NS = 60 * SECOND_NS
OFF, NARROW, WIDE = 0, 1, 2


class Agenda:
    """Everything the probe does in one process, on one thread."""

    def __init__(self, path, main_ident, pid, born_ns):
        self.pid = pid
        self.born_ns = born_ns
        self.stopping = self.leaving = False
        self.sampling = True
        self.link = Link(path)
        self.tables = Tables()
        self.threads = Threads(main_ident, pid)
        self.sampler = Sampler(self.tables, self.threads)
        self.budget = Budget(_number("SOFA_PROBE_BUDGET", 0.01), _number("SOFA_PROBE_RATE", DEFAULT_RATE))
        self.control = wire.Control()
        self.handovers = self.total_handovers = 0
        self._variables = []
        self._next_flush = self._next_second = self._next_reset = 0
        self._jitter = pid * 2654435761 & 0x7FFFFFFF
        self._cpu_before = 0
        self.waits = Waits()
        self.handover = Handover()
        self.fast = _on("SOFA_PROBE_SWITCH")
        self._eager_until = 0
        self._hooks = None
        self.parts = self._parts(main_ident)
        self._most = MAX_RATE
        self._notice_worker()
        if self.sampler.on_stack is None and "SOFA_PROBE_RATE" not in os.environ and self._most == MAX_RATE:
            self.budget.ask(MAX_RATE, MAX_RATE)
            self._eager_until = time.monotonic_ns() + EAGER_NS

    def _parts(self, main_ident):
        """The optional mechanisms that this interpreter has and the environment allows."""
        parts = [counters.Counters(self.pid, self.link)] if _on("SOFA_PROBE_COUNTERS") else []
        loops = None
        if hasattr(sys, "monitoring") and _on("SOFA_PROBE_LOOPS"):
            from _sofa_probe import monitor

            loops = monitor.Monitor(self.tables, main_ident, self.pid, self.notice)
            self.sampler.on_stack, self.sampler.on_gone = loops.seen, loops.forget
            parts.append(loops)
        if _on("SOFA_PROBE_HOOKS"):
            self._hooks = hooks.Hooks(self.tables, loops)
            parts.append(self._hooks)
        return parts

    def run(self, wake):
        """Work until ``stopping``; ``wake`` is released to end a sleep early."""
        self.stopping = False
        self._cpu_before += -time.thread_time_ns()
        period = self.budget.period
        due = time.monotonic_ns()
        while not self.stopping:
            now = time.monotonic_ns()
            period = self.budget.period if self.sampling else FLUSH_NS
            self._jitter = (self._jitter * 1103515245 + 12345) & 0x7FFFFFFF
            due += int(period * (0.75 + 0.5 * self._jitter / 0x7FFFFFFF))
            if due <= now:
                due = now + period // 2
            self.waits.before_sleep()
            if wake.acquire(True, (due - now) / 1e9):
                break
            now = time.monotonic_ns()
            if self.link.overflow and not self.link.connected:
                # Nobody listens and the ring is full: the program need not pay for samples that go nowhere.
                due = now + FLUSH_NS
                self._flush(now)
                continue
            if self.sampling:
                waited = self.waits.waited(now - due) if now - due > WAITED_NS else 0
                self.handovers += waited > 0
                if self.sampler.take(due, period, waited > 0):
                    self.waits.disturbed = True
                self.handover.notice(self.sampler.running, waited, now)
            if now >= self._next_flush:
                self._flush(now)
        self._pause()

    def _pause(self):
        self.handover.restore()
        now = time.monotonic_ns()
        self._send(now)
        if self.leaving:
            self._account()
            self.link.put(wire.frame(wire.BYE, b"exit"))
        self.link.flush(now)
        self._cpu_before += time.thread_time_ns()
        if self.leaving:
            self.close()

    def close(self):
        """Release every descriptor: an open socket object that lives until the interpreter's end crashes 3.8."""
        self.sampling = False
        self.link.close()
        self.threads.close()
        for part in self.parts:
            part.close()

    def cpu_ns(self):
        """CPU time of the probe's thread in this process."""
        return self._cpu_before + time.thread_time_ns()

    def _flush(self, now):
        self._next_flush = now + FLUSH_NS
        self.waits.disturbed = True
        if self.handovers and self.fast:
            self.handover.shorten(now)
        self.total_handovers += self.handovers
        self.budget.settle(self.cpu_ns(), now, self.total_handovers, self.sampler.samples)
        self.handovers = 0
        if self.link.lost:
            # The next reader knows nothing of our tables.
            self.link.lost = False
            self._start_anew()
        if self.link.connect(now):
            self._greet(now)
        if now >= self._next_second:
            self._next_second = now + SECOND_NS
            self._second(now)
        for part in self.parts:
            part.tick(now)
        if self._eager_until and (now > self._eager_until or (self._hooks is not None and self._hooks.exact)):
            self._eager_until = 0
            self.budget.ask(self.budget.usual, MAX_RATE)
        self._send(now)
        self.link.flush(now)
        data = self.link.receive(now)
        if data:
            self._obey(data, now)

    def _greet(self, now):
        """First words on a new connection, before everything that waits in the queue."""
        self.control = wire.Control()
        self._variables = identity.variables()
        self.link.first(
            wire.hello(
                self.pid, os.getppid(), time.monotonic_ns(), time.time_ns(), self.born_ns,
                identity.describe() + [("env." + key, value) for key, value in self._variables],
            )
        )  # fmt: skip

    def _start_anew(self):
        self.link.clear()
        self.link.overflow = False
        self.tables.reset()
        self.sampler.restart()
        for part in self.parts:
            part.restart()
        self.link.put(wire.frame(wire.RESET))

    def _send(self, now):
        """Queue what has come together. Tables go first; when they cannot, nothing that refers to them may."""
        if self.link.overflow and self.link.connected and self.link.drained():
            self._start_anew()
        frames = [self.sampler.drain()]
        for part in self.parts:
            frames += part.drain()
        for data in self.tables.delta() + frames:
            if data is not None:
                self.link.put(data)

    def _second(self, now):
        self.sampler.forget_dead()
        variables = identity.variables()
        if variables != self._variables and self.link.connected:
            self._variables = variables
            self.link.put(wire.frame(wire.IDENTITY, wire.pairs([("env." + key, value) for key, value in variables])))
        self._notice_worker()
        if self.tables.full and now >= self._next_reset:
            self._next_reset = now + FULL_RESET_NS
            self.notice("the probe's symbol tables are full; stacks are cut short until they start anew")
            self._start_anew()
        self._account()

    def _notice_worker(self):
        """A pool's or loader's worker is not where the training loop is: it does not pay for the search."""
        if self._most == MAX_RATE and _is_worker():
            self._most = DEFAULT_RATE
            self.budget.ask(min(self.budget.wanted, DEFAULT_RATE), DEFAULT_RATE)

    def _account(self):
        self.link.put(wire.stamped(wire.STATS, (time.monotonic_ns(), time.time_ns()), self.stats()))

    def stats(self):
        """The probe's own account."""
        sampler, tables, budget = self.sampler, self.tables, self.budget
        found = [
            ("samples", sampler.samples), ("rows", sampler.rows), ("late", sampler.late), ("dropped", self.link.dropped),
            ("cpu_ns", self.cpu_ns()), ("rate_hz", "%.1f" % (1e9 / budget.period)), ("spent", "%.5f" % budget.spent),
            ("handovers", self.total_handovers), ("threads", len(self.threads.by_ident)),
            ("threads_skipped", self.threads.skipped), ("codes", len(tables.codes)), ("symbols", len(tables.symbols)),
            ("paths", len(tables.paths)),
        ]  # fmt: skip
        for part in self.parts:
            found += part.stats()
        return found

    def notice(self, words):
        """Tell the user something."""
        self.link.put(wire.frame(wire.NOTICE, wire.text(words)))

    def _obey(self, data, now):
        try:
            requests = self.control.feed(data)
        except ValueError:
            self.link.close(now)
            return
        for mode, bursts, rate, names in requests:
            self.sampling = mode != OFF
            if rate > 0:
                self._eager_until = 0
            self.budget.ask(rate, self._most)
            for part in self.parts:
                part.request(mode, bursts, names)

    def abandon(self):
        """In a forked child: drop the parent's descriptors."""
        self.link.abandon()
        self.threads.close()
        for part in self.parts:
            part.abandon()


def _is_worker():
    """Whether this is a daemonic process of ``multiprocessing``."""
    process = sys.modules.get("multiprocessing.process")
    try:
        return bool(process.current_process().daemon)
    except Exception:
        return False


def _on(name):
    return os.environ.get(name, "on").lower() not in ("off", "0", "no", "false")


def _number(name, default):
    try:
        return float(os.environ[name])
    except (KeyError, ValueError):
        return default
