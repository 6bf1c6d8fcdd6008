"""Exact loops (Python 3.12 and later): ``sys.monitoring`` tells every backward jump of the functions that threads are seen in.

A training step is one turn of a loop that is already running when it is first sampled, so function entries never show it; JUMP
events do, since both ``for`` and ``while`` close with a backward jump (checked on 3.12, 3.13). Events are local to code objects,
locations that turn too fast are switched off at once, and what is off costs nothing.
"""

import sys
from _thread import get_ident
from array import array
from time import monotonic_ns

from _sofa_probe import wire
from _sofa_probe.fork_monitor import TOOLS, free_tool
from _sofa_probe.sizes import size_of

PYTHON_CALL, ENTRY, LOOP, HOT = 3, 1, 2, 4
OFF, NARROW, WIDE = 0, 1, 2
HOT_HZ = 2500
TOTAL_HZ = 6000
MAX_CODES = 400
MAX_THREADS = 8
IMPORTS = "<frozen importlib"
BURST_NS = 500000000
BURST_EVENTS = 4000
NAME = "sofa"


class Monitor:
    """Loop turns of the threads that run Python, and bursts of function entries of the main thread, between two drains.

    A training loop need not be in the main thread: up to eight threads are followed, each with counts of its own.

    Attributes:
        active: A tool id was free; otherwise the monitor does nothing.
    """

    def __init__(self, tables, main_ident, tid, notice):
        self.tables, self.tid, self._main, self._notice = tables, tid, main_ident, notice
        self.events = self.hot_count = 0
        self._api = sys.monitoring
        self._tool = free_tool(TOOLS)
        self.active = self._tool is not None
        self._mode, self._names = WIDE, ()
        self._codes = {}
        self._modules = {}
        self._paths = set()
        self._hot = set()
        self._threads = {main_ident: (tid, {})}
        self._heads = {}
        self._symbols = {}
        self._watched = {}
        self._entries = []
        self._burst_end = 0
        self._drained = monotonic_ns()
        self._backward = None
        if self.active:
            self._api.use_tool_id(self._tool, NAME)
            events = self._api.events
            self._calls = events.PY_START | events.PY_RETURN
            self._api.register_callback(self._tool, events.JUMP, self._jump_callback())
            self._api.register_callback(self._tool, events.PY_START, self._start_callback())
            self._api.register_callback(self._tool, events.PY_RETURN, self._return_callback())

    def _jump_callback(self):
        """The function that runs inside the program, once a loop turn: no allocation but the time, no attribute look-up.

        A code object's bytecode lies inside the object, so its address plus an offset names an instruction of the process.
        """
        threads, heads, hot, disable = self._threads, self._heads, self._hot, self._api.DISABLE
        ident, now, limit = get_ident, monotonic_ns, HOT_HZ // 4

        def jump(code, source, target):
            if target > source:
                return disable
            key = id(code) + target
            if key in hot:
                return disable
            thread = threads.get(ident())
            if thread is None:
                return None
            times = thread[1].get(key)
            if times is None:
                heads[key] = (code, source, target)
                times = thread[1][key] = []
            if len(times) >= limit:
                return disable
            times.append(now())
            return None

        return jump

    def seen(self, ident, tid, path, frame):
        """Take note of a stack of a thread that has run (called by the sampler)."""
        if not self.active or self._mode == OFF:
            return
        known = self._threads.get(ident)
        if known is None and len(self._threads) >= MAX_THREADS:
            return
        if known is None or known[0] != tid:  # an ended thread's identity may be another's now
            self._threads[ident] = (tid, {})
        if path in self._paths:
            return
        self._paths.add(path)
        if len(self._codes) >= MAX_CODES:
            self._forget()
        while frame is not None:
            code = frame.f_code
            if id(code) not in self._codes and not code.co_filename.startswith(IMPORTS):
                self._codes[id(code)] = code
                self._modules[id(code)] = str(frame.f_globals.get("__name__", ""))
                self._set(code)
            frame = frame.f_back

    def _forget(self):
        """The table is full, of what start-up ran through more often than not: only what is seen from now on is followed."""
        codes = list(self._codes.values())
        for kept in (self._codes, self._modules, self._hot, self._heads, self._symbols, self._paths):
            kept.clear()
        for _, turns in self._threads.values():
            turns.clear()
        for code in codes:
            self._set(code)

    def _set(self, code):
        """Give a code object the events it should have."""
        followed = id(code) in self._codes and self._wanted(code) and self._loops(code)
        wanted = (self._api.events.JUMP if followed else 0) | (self._calls if id(code) in self._watched else 0)
        self._api.set_local_events(self._tool, code, wanted)

    def _loops(self, code):
        if self._backward is None:
            import opcode

            self._backward = opcode.opmap.get("JUMP_BACKWARD", -1)
        return self._backward in code.co_code[::2]

    def _wanted(self, code):
        if self._mode != NARROW or not self._names:
            return self._mode != OFF
        return any(
            function in (code.co_qualname, code.co_name) and file in ("", code.co_filename) for function, file in self._names
        )

    def request(self, mode, bursts, names):
        """Change what is captured; widening switches hot locations on again, for this tool only."""
        if not self.active:
            return
        wanted = (mode, {(name[0], name[2]) for name in names})
        if mode == NARROW and wanted == (self._mode, self._names) and not bursts:
            return  # only the rate is another one: loops that are followed stay as they are
        self._mode, self._names = wanted
        self._hot.clear()
        self._paths.clear()
        for code in self._codes.values():
            self._api.set_local_events(self._tool, code, 0)
            self._set(code)
        if bursts:
            self._start_burst()

    def watch(self, code, point, sized):
        """Report calls of ``code`` to a hook's point, without touching the function."""
        self._watched[id(code)] = (point, sized, code)
        self._set(code)

    def _start_callback(self):
        watched, entries = self._watched, self._entries
        main, ident, now, disable = self._main, get_ident, monotonic_ns, self._api.DISABLE

        def start(code, _offset):
            found = watched.get(id(code))
            if found is not None:
                found[0].enter(size_of(_arguments()) if found[1] else 0)
            elif ident() == main:
                if len(entries) >= BURST_EVENTS:
                    return disable
                entries.append((now(), code))
            return None

        return start

    def _return_callback(self):
        watched = self._watched

        def leave(code, _offset, _value):
            found = watched.get(id(code))
            if found is not None:
                found[0].leave()

        return leave

    def _start_burst(self):
        self._burst_end = monotonic_ns() + BURST_NS
        self._api.set_events(self._tool, self._api.events.PY_START)

    def _end_burst(self):
        self._burst_end = 0
        self._api.set_events(self._tool, 0)

    def tick(self, now):
        """End a burst that is over."""
        if self._burst_end and (now >= self._burst_end or len(self._entries) >= BURST_EVENTS):
            self._end_burst()

    def drain(self):
        """CALLS frames of everything since the last time."""
        if not self.active:
            return []
        now = monotonic_ns()
        passed = max(now - self._drained, 1) / 1e9
        self._drained = now
        taken = []
        for tid, turns in list(self._threads.values()):
            for key, times in list(turns.items()):
                count = len(times)
                if count:
                    taken.append((count, key, tid, times[:count]))
                    del times[:count]
        taken.sort()
        total = sum([count for count, _, _, _ in taken])
        columns = (array("q"), array("q"), array("I"), array("B"), array("I"))
        while taken:
            count, key, tid, times = taken.pop()
            if count >= HOT_HZ // 4 or total / passed > TOTAL_HZ:
                total -= count
                rate = count / passed
                if self._too_hot(key, rate):
                    self._append(columns, (now,), self._symbol(key), HOT, tid, int(1e9 / rate))
                continue
            self._append(columns, times, self._symbol(key), LOOP, tid)
        entries = self._entries[:]
        del self._entries[: len(entries)]
        for time, code in entries:
            symbol = self.tables.symbol(code, 0, code.co_firstlineno, self._modules.get(id(code), ""))
            self._append(columns, (time,), symbol, ENTRY, self.tid)
        self.events += len(columns[0])
        return _loop_frames(columns)

    @staticmethod
    def _append(columns, times, symbol, subkind, tid, duration=0):
        if symbol:
            columns[0].extend(times)
            for column, value in zip(columns[1:], (duration, symbol, subkind, tid)):
                column.extend([value] * len(times))

    def _too_hot(self, key, rate):
        """Switch a location off and say so (True: for good); one that only filled its list while nobody drained it goes on."""
        code, source, target = self._heads[key]
        if rate < HOT_HZ / 2 and code is not None:
            self._api.set_local_events(self._tool, code, 0)
            self._set(code)
            return False
        self._hot.add(key)
        for _, turns in self._threads.values():
            turns.pop(key, None)
        self.hot_count += 1
        if self.hot_count <= 20:
            line = _line(code, source, target)
            words = "HOT loop at %s:%d (%s) turns %.0f times a second: not followed" % (
                code.co_filename,
                line,
                code.co_name,
                rate,
            )
            self._notice(words)
        return True

    def _symbol(self, key):
        found = self._symbols.get(key)
        if found is None:
            code, source, target = self._heads[key]
            line = _line(code, source, target)
            found = self._symbols[key] = self.tables.symbol(code, target, line, self._modules.get(id(code), ""))
        return found

    def forget(self, idents):
        """Threads have ended; their identities may be given away again."""
        for ident in idents:
            if ident != self._main:
                self._threads.pop(ident, None)

    def restart(self):
        """The tables start anew."""
        self._symbols.clear()
        self._paths.clear()

    def stats(self):
        """Own account."""
        return [("loop_events", self.events), ("loops_hot", self.hot_count), ("loop_codes", len(self._codes))]

    def close(self):
        """Take every event back and free the tool."""
        if not self.active:
            return
        self.active = False
        for code in list(self._codes.values()) + [found[2] for found in self._watched.values()]:
            self._api.set_local_events(self._tool, code, 0)
        self._api.set_events(self._tool, 0)
        events = self._api.events
        for event in (events.JUMP, events.PY_START, events.PY_RETURN):
            self._api.register_callback(self._tool, event, None)
        self._api.free_tool_id(self._tool)

    abandon = close


def _line(code, source, target):
    """Line of a loop's head: a ``while`` jumps back to its body, so its test (at the jump) is the earlier of the two lines."""
    lines = [line for start, end, line in code.co_lines() if line and (start <= source < end or start <= target < end)]
    return min(lines) if lines else code.co_firstlineno


def _arguments():
    """First two arguments of the function that has just been entered (two Python frames up)."""
    try:
        frame = sys._getframe(2)
        names, values = frame.f_code.co_varnames[:2], frame.f_locals
        return [values.get(name) for name in names]
    except Exception:
        return ()


def _loop_frames(columns):
    times, durations, symbols, subkinds, tids = columns
    count = len(times)
    if not count:
        return []
    zeros, none = array("q", bytes(8 * count)), array("I", bytes(4 * count))
    kinds = array("B", [PYTHON_CALL]) * count
    return [wire.rows(wire.CALLS, (times, durations, zeros, tids, symbols, none, kinds, subkinds))]
