"""The plain way to read strace: one regular expression a line, one dictionary of open calls. Slow, and easy to check.

``reference`` is the oracle of the importer; ``Writer`` prints random recordings with any options.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from sofa_otel.exporters.collect.syscall_names import ON_DESCRIPTOR, TRANSFERS

LINE = re.compile(
    r"^(?:\[pid +(?P<bracket>\d+)(?:<[^>]*>)?\] |(?P<column>\d{1,7})(?:<[^>]*>)? +(?=[\d ]))?"
    r" *(?:(?P<of_day>\d\d:\d\d:\d\d)|(?P<seconds>\d+))(?:\.(?P<fraction>\d+))? "
    r"(?:\(\+ +[\d.]+\) )?(?:\[[ 0-9]+\] )?(?:\[[0-9a-f?]+\] )?(?P<rest>.*)$"
)
CALL = re.compile(r"^(?P<name>[a-z_]\w*)\((?P<args>.*)$")
RESUMED = re.compile(r"^<\.\.\. (?P<name>[a-z_]\w*) resumed>(?P<args>.*)$")
RESULT = re.compile(r"^(?P<args>.*)\) += (?P<result>.*?)(?: <(?P<duration>\d+(?:\.\d+)?)>)?$")
BIRTHS = {"clone", "clone3", "fork", "vfork"}


class Row(NamedTuple):
    name: str
    start: int
    duration: int
    pid: int
    tid: int
    bytes: int
    subkind: int
    peer: int


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0") or 0)


def reference(text: str) -> list[Row]:
    """Rows of a recording whose lines all name their thread."""
    rows: list[dict[str, int | str]] = []
    open_calls: dict[int, dict[str, int | str]] = {}
    leader: dict[int, int] = {}
    makes_thread: dict[int, bool] = {}
    now, last_of_day = 0, None
    for line in text.splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        tid = int(found["bracket"] or found["column"])
        fraction = nanoseconds("0." + (found["fraction"] or "0"))
        if found["of_day"]:
            hour, minute, second = found["of_day"].split(":")
            of_day = ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 10**9 + fraction
            if last_of_day is not None and of_day < last_of_day - 43_200 * 10**9:
                now += 86_400 * 10**9
            now, last_of_day = (of_day if last_of_day is None else now + of_day - last_of_day), of_day
            time = now
        elif len(found["seconds"]) >= 9:
            time = int(found["seconds"]) * 10**9 + fraction
        else:
            now += int(found["seconds"]) * 10**9 + fraction
            time = now
        rest = found["rest"]
        if resumed := RESUMED.match(rest):
            row = open_calls.pop(tid, None)
            result = RESULT.match(resumed["args"])
            assert result
            if row is None:
                row = _row(resumed["name"], "", time, tid)
                if result["duration"]:
                    row["start"] = time - nanoseconds(result["duration"])
            name, ended = str(row["name"]), True
            row["duration"] = nanoseconds(result["duration"]) if result["duration"] else time - int(row["start"])
        elif call := CALL.match(rest):
            name, ended = call["name"], not call["args"].endswith("<unfinished ...>")
            row = _row(name, call["args"], time, tid)
            makes_thread[tid] = "CLONE_THREAD" in call["args"]
            if not ended:
                open_calls[tid] = row
                continue
            result = RESULT.match(call["args"])
            assert result, line
            row["duration"] = nanoseconds(result["duration"] or "0")
        else:
            if rest.startswith("+++") and tid in open_calls:
                row = open_calls.pop(tid)
                row["duration"] = time - int(row["start"])
                rows.append(row)
            continue
        number = re.match(r"\d+(?!x)", result["result"])
        if name in TRANSFERS and number:
            row["bytes"] = int(number[0])
        if name in BIRTHS and number and makes_thread.get(tid):
            leader[int(number[0])] = leader.get(tid, tid)
        rows.append(row)
    rows += open_calls.values()
    return sorted(
        Row(
            str(r["name"]), int(r["start"]), int(r["duration"]), leader.get(int(r["tid"]), int(r["tid"])), int(r["tid"]),
            int(r["bytes"]), int(r["subkind"]), int(r["peer"]),
        )
        for r in rows
    )  # fmt: skip


def _row(name: str, args: str, time: int, tid: int) -> dict[str, int | str]:
    row: dict[str, int | str] = {
        "name": name, "start": time, "duration": 0, "tid": tid, "bytes": 0, "subkind": 0, "peer": 0,
    }  # fmt: skip
    if name == "futex" and args:
        row["subkind"] = 1 if re.search(r"FUTEX_(WAIT|LOCK)", args) else 2
    if name in ON_DESCRIPTOR and (fd := re.match(r"\d+|-1", args)):
        row["peer"] = int(fd[0]) & 0xFFFFFFFF
    return row


class Options(NamedTuple):
    """How strace was called."""

    clock: str
    digits: int
    durations: int
    bracket: bool
    comm: bool
    relative: bool
    number: bool
    pointer: bool
    decorated: bool
    padded: bool
    stacks: bool


class Writer:
    """Prints what strace would, for a random program."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        yes = lambda: rng.random() < 0.4  # noqa: E731
        self.options = Options(
            rng.choice(["unix", "of_day", "relative"]), rng.choice([0, 3, 6, 6, 6, 9]), rng.choice([-1, 0, 3, 6, 6, 9]),
            yes(), yes(), yes(), yes(), yes(), yes(), yes(), rng.random() < 0.2,
        )  # fmt: skip
        if self.options.clock == "relative":
            self.options = self.options._replace(relative=False)
        # Where the clock is coarse, so are differences: the printed times are the truth.
        self.step = 10 ** (9 - self.options.digits)
        self.now = rng.choice([1_690_000_000 * 10**9, (1_690_000_000 - 1_690_000_000 % 86_400 - 1) * 10**9])
        self.last = self.now
        self.threads = [rng.randrange(2, 4_000_000)]
        self.open: dict[int, str] = {}
        self.lines: list[str] = []

    def text(self, count: int) -> str:
        while len(self.lines) < count:
            self.now += self.rng.choice([1, 5, 100, 10**6 // self.step + 1]) * self.step
            self._event(self.rng.choice(self.threads))
        return "\n".join(self.lines) + "\n"

    def _event(self, tid: int) -> None:
        rng = self.rng
        if tid in self.open:
            name, rest = self.open.pop(tid).split(" ", 1)
            self._line(tid, self._ended(f"<... {name} resumed>{rest}"))
            return
        kind = rng.random()
        if kind < 0.03:
            self._line(tid, rng.choice(["--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=7, si_status=0} ---"]))
        elif kind < 0.05:
            child = rng.randrange(2, 4_000_000)
            flags = rng.choice(["CLONE_VM|CLONE_THREAD|CLONE_SETTLS", "CLONE_CHILD_SETTID|SIGCHLD"])
            self._line(tid, self._ended(f"clone(child_stack=NULL, flags={flags}, child_tidptr=0x7f) = {child}"))
            if child not in self.threads:
                self.threads.append(child)
        elif kind < 0.06 and len(self.threads) > 1:
            self.threads.remove(tid)
            self._line(tid, "exit_group(0) = ?")
            self._line(tid, "+++ exited with 0 +++")
        else:
            head, tail = self._call()
            if rng.random() < 0.3:
                self.open[tid] = f"{head.split('(')[0]} {tail}"
                self._line(tid, f"{head} <unfinished ...>")
            else:
                self._line(tid, self._ended(head + tail))
        if self.options.stacks and tid not in self.open:
            self.lines.append(" > /usr/lib/libc.so.6(__read+0x4d) [0xfb0ad]")

    def _call(self) -> tuple[str, str]:
        rng = self.rng
        size = rng.choice([0, 1, 9, 4096, 99_999_999, 100_000_000, 123_456_789_012])
        fd = str(rng.randrange(0, 3000))
        if self.options.decorated:
            fd += rng.choice(
                ["<pipe:[229225]>", "</tmp/a\\74b (c) = 5, d>", "<TCP:[1.2.3.4:5->6.7.8.9:80]>", "</dev/shm/x>(deleted)"]
            )
        string = rng.choice(
            ['""', '"a) = 7 <0.000001>"', '"\\n(\\"x\\", = 3"...', '"<unfinished ...>"', f'"{"z" * rng.randrange(300)}"']
        )
        error = rng.choice(
            ["-1 EAGAIN (Resource temporarily unavailable)", "? ERESTARTSYS (To be restarted if SA_RESTART is set)"]
        )
        result = rng.choice([str(size), str(size), error])
        return rng.choice(
            [
                (f"read({fd},", f" {string}, 4096) = {result}"),
                (f"write({fd}, {string}, {size}", f") = {result}"),
                (f"recvmsg({fd},", f" {{msg_name=NULL, msg_iov=[{{iov_base={string}, iov_len=1}}]}}, 0) = {result}"),
                (f"pread64({fd},", f" {string}, 12, 0) = {result}"),
                (
                    "futex(0x7f60a8b4e6f0, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, NULL, FUTEX_BITSET_MATCH_ANY",
                    ") = 0",
                ),
                ("futex(0x5f, FUTEX_WAKE_PRIVATE, 1", ") = 1"),
                ("futex(0x5f, FUTEX_LOCK_PI_PRIVATE, NULL", ") = 0"),
                ("poll([{fd=3, events=POLLIN}], 1, 5000", ") = 1 ([{fd=3, revents=POLLIN}])"),
                ("select(4, [3], NULL, NULL, {tv_sec=1, tv_usec=0}", ") = 1 (in [3], left {tv_sec=0, tv_usec=9})"),
                (f"mmap(NULL, {size}, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0", ") = 0x7f60a7aba000"),
                ("munmap(0x7f60a7aba000, 256", ") = 0"),
                ("openat(AT_FDCWD, " + string + ", O_RDONLY", f") = {fd}"),
                ("close(-1", ") = -1 EBADF (Bad file descriptor)"),
                ("sched_get_priority_max(SCHED_FIFO", ") = 99"),
                (f"getrandom({string}, 20, 0", ") = 20"),
                ("clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=0, tv_nsec=2000000}, NULL", ") = 0"),
                ("restart_syscall(<... resuming interrupted read ...>", ") = 0"),
            ]
        )

    def _ended(self, text: str) -> str:
        head, _, result = text.rpartition(") = ")
        if self.options.padded:
            head = head.ljust(39)
        digits = self.options.durations
        if digits < 0 or result == "?":
            return f"{head}) = {result}"
        spent = self.rng.choice([0, 8, 123, 1_000_000, 999_999, 10**9, 12 * 10**9 + 5]) // 10 ** (9 - digits) * 10 ** (9 - digits)
        return f"{head}) = {result} <{self._decimal(spent, digits)}>"

    @staticmethod
    def _decimal(ns: int, digits: int) -> str:
        return f"{ns // 10**9}" + (f".{ns % 10**9:09d}"[: digits + 1] if digits else "")

    def _line(self, tid: int, text: str) -> None:
        options = self.options
        comm = "<pt_main: x\\76>" if options.comm else ""
        out = f"[pid {tid:5d}{comm}] " if options.bracket else f"{f'{tid}{comm}':<5} "
        if options.clock == "unix":
            out += self._decimal(self.now, options.digits) + " "
        elif options.clock == "of_day":
            second = self.now // 10**9 % 86_400
            out += f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
            out += (f".{self.now % 10**9:09d}"[: options.digits + 1] if options.digits else "") + " "
        else:
            out += self._relative() + " "
        if options.relative:
            out += f"(+{self._relative()}) "
        self.last = self.now
        if options.number:
            out += f"[{self.rng.randrange(400):4d}] "
        if options.pointer:
            out += self.rng.choice(["[00007f711eb40c47] ", "[????????????????] "])
        self.lines.append(out + text)

    def _relative(self) -> str:
        passed = self._decimal(self.now - self.last, self.options.digits)
        return passed.rjust(6 + (self.options.digits and self.options.digits + 1))
