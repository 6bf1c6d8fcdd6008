"""Processes: which process each thread of a recording belongs to. strace prints thread ids only.

What starts a thread says so (``CLONE_THREAD``), ``getpid`` tells its caller's process, and so does who wakes whom. A thread of
which nothing is known is taken for a process. Where strace prints no id at all there is one thread; its id is learnt from its
calls or the file's name.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.exporters.read.strace_calls import returned
from sofa_otel.exporters.read.strace_kin import kin
from sofa_otel.exporters.read.strace_lines import LAST_TID, Line, Lines
from sofa_otel.exporters.read.strace_names import CallNames, Trait
from sofa_otel.exporters.read.strace_scan import Places

_CHILD: Final = re.compile(rb"= (\d+)(?:<[^>]*>)?(?: /\* (\d+) in strace's PID NS \*/)?")
_RAW_FLAGS: Final = re.compile(rb"clone\(0x([0-9a-f]+)")
_CLONE_THREAD: Final = 0x10000
_LOOKS: Final = 6
"""Blocks in which kin is looked for after a thread of unknown origin has come."""
_MOST_STRANGERS: Final = 1000
_SUFFIX: Final = re.compile(r"\.(\d{1,7})(?:\.(?:gz|xz|zst))?$")


class Processes:
    """What is known so far.

    Args:
        names: Numbers of the calls.
        file: Base name of the recording; ``strace -ff`` puts the thread's id at its end.
    """

    def __init__(self, names: CallNames, file: str) -> None:
        self._names = names
        self._leader = np.zeros(LAST_TID + 1, np.uint32)
        self._seen = np.zeros(LAST_TID + 1, bool)
        self._born = np.zeros(LAST_TID + 1, bool)
        self._strangers: set[int] = set()
        self._looks = 0
        self._starting: dict[int, bool] = {}
        self._present: set[int] = set()
        suffix = _SUFFIX.search(file)
        self._only = int(suffix[1]) if suffix and int(suffix[1]) <= LAST_TID else 0

    def pids(self, tids: Places) -> NDArray[np.uint32]:
        """Process of each thread."""
        out = tids.astype(np.uint32)
        for _ in range(2):  # a thread may have been started by a thread whose own start was told later
            found = self._leader[out]
            out = np.where(found > 0, found, out)
        return out

    def learn(self, lines: Lines, timed: NDArray[np.bool_]) -> None:
        """Take in the births of a block and name the thread of each line that does not say it (``lines.tid``).

        Args:
            lines: The block, before its calls are read.
            timed: Lines to look at.
        """
        births = self._births(lines, timed)
        if (lines.tid[timed] == 0).any():
            self._name_the_nameless(lines, timed, {child for _, child, _ in births if child})
        for row, child, thread in births:
            parent = int(lines.tid[row])
            if lines.kind[row] == Line.BEGUN:
                self._starting[parent] = thread
            elif lines.kind[row] == Line.RESUMED:
                thread = self._starting.pop(parent, False)
            if child:
                self._born[child] = True
                self._leader[child] = (self._leader[parent] or parent) if thread else 0
        tids = lines.tid[timed]
        fresh = tids[~self._seen[tids]]
        if not len(fresh):
            return
        new = np.unique(fresh).tolist()
        self._seen[fresh] = True
        self._guess(new)
        strangers = [tid for tid in new if not self._born[tid] and tid]
        if strangers:
            self._strangers.update(strangers[:_MOST_STRANGERS])
            self._looks = _LOOKS

    def _births(self, lines: Lines, timed: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
        """``(line, child or 0, whether its flags make a thread)`` of the calls that start something."""
        birth = (self._names.trait[lines.call] & Trait.BIRTH > 0) & (lines.call >= 0) & timed
        out: list[tuple[int, int, bool]] = []
        for row in np.flatnonzero(birth).tolist():
            text = lines.scan.data[int(lines.scan.start[row]) : int(lines.scan.end[row])]
            raw = _RAW_FLAGS.search(text)
            thread = b"CLONE_THREAD" in text or (raw is not None and int(raw[1][-16:], 16) & _CLONE_THREAD > 0)
            ended = lines.kind[row] in {Line.WHOLE, Line.RESUMED}
            found = _CHILD.match(text, text.rfind(b" = ") + 1) if ended else None
            child = int((found[2] or found[1])[:18]) if found else 0
            out.append((row, child if child <= LAST_TID else 0, thread))
        return out

    def answers(self, lines: Lines, rows: NDArray[Any], ends: Places) -> None:
        """Take in what ``getpid`` told its callers, and who woke whom.

        Args:
            lines: The block.
            rows, ends: Its calls (:meth:`.CallReader.read`).
        """
        self._ask(lines, rows, ends)
        if self._looks and sum(self._leader[tid] == 0 for tid in self._strangers) > 1:
            self._looks -= 1
            for one, other in kin(lines, rows, ends, self._born):
                self._unite(one, other)

    def _unite(self, one: int, other: int) -> None:
        first, second = (int(self._leader[tid]) or tid for tid in (one, other))
        if first != second:
            self._leader[max(first, second)] = min(first, second)

    def _ask(self, lines: Lines, rows: NDArray[Any], ends: Places) -> None:
        asks = np.flatnonzero((self._names.trait[rows["call"]] & Trait.TELLS_PID > 0) & (ends >= 0))
        if not len(asks):
            return
        asks = asks[self._leader[rows["tid"][asks]] == 0]
        _, first = np.unique(rows["tid"][asks], return_index=True)
        asks = asks[first]
        tid, pid = rows["tid"][asks], returned(lines, ends[asks])
        good = (pid > 0) & (pid <= LAST_TID) & (pid != tid)
        # In a container the answer is another name space's number: it counts only where it is a thread of the recording.
        good[good] = self._seen[pid[good]]
        self._leader[tid[good]] = pid[good]

    def _guess(self, new: list[int]) -> None:
        """A thread that shows up before the call that makes it has returned."""
        waiting = [parent for parent, thread in self._starting.items() if thread and parent]
        for tid in new:
            if waiting and not self._leader[tid] and tid not in waiting:
                parent = waiting.pop(0)
                self._leader[tid] = self._leader[parent] or parent

    def _name_the_nameless(self, lines: Lines, timed: NDArray[np.bool_], children: set[int]) -> None:
        nameless = timed & (lines.tid == 0)
        if not self._only:
            self._only = self._told(lines, nameless) or self._other(lines, children)
        if self._present or (lines.tid[timed] > 0).any():
            self._follow(lines, timed)
        else:
            lines.tid[nameless] = self._only

    def _told(self, lines: Lines, nameless: NDArray[np.bool_]) -> int:
        """The thread's own answer to gettid, set_tid_address or (single thread) getpid."""
        for trait in (Trait.TELLS_TID, Trait.TELLS_PID):
            mask = nameless & (lines.kind == Line.WHOLE) & (lines.call >= 0)
            asks = np.flatnonzero(mask & (self._names.trait[lines.call] & trait > 0))[:1]
            answer = int(returned(lines, asks)[0]) if len(asks) else 0
            if 0 < answer <= LAST_TID:
                return answer
        return 0

    @staticmethod
    def _other(lines: Lines, children: set[int]) -> int:
        """The first thread with an id that no call in sight has made."""
        return next((tid for tid in dict.fromkeys(lines.tid[lines.tid > 0].tolist()) if tid not in children), 0)

    def _follow(self, lines: Lines, timed: NDArray[np.bool_]) -> None:
        """strace leaves the id away while only one thread is left: find which, for each run of such lines."""
        rows = np.flatnonzero(timed)
        nameless = lines.tid[rows] == 0
        cuts = np.flatnonzero(np.diff(nameless)) + 1
        for run in np.split(rows, cuts):
            if not len(run):
                continue
            if lines.tid[run[0]] == 0:
                if len(self._present) == 1:
                    self._only = next(iter(self._present))
                lines.tid[run] = self._only
            self._present.update(set(lines.tid[run].tolist()) - {0})
            self._present.difference_update(lines.tid[run[lines.kind[run] == Line.EXIT]].tolist())
