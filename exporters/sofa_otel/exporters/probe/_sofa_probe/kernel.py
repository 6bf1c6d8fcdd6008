"""What the kernel says about a blocked thread: ``/proc/self/task/TID/syscall`` and the kind of descriptor it waits on.

Reading the file releases the interpreter lock, so the sampler asks only when CPU clocks cannot answer (:mod:`states`), and after
everything else is done.
"""

import _socket
import os

from _sofa_probe.descriptors import close_quietly, opened

UNKNOWN, ON_CPU, LOCK, GIL, DISK, NETWORK, IPC, SLEEP, CHILD, OTHER = range(10)
"""As ``sofa_otel.core.kinds.Wait`` (a test compares them)."""

WANTS_GIL = 100
"""Blocked on a futex of the interpreter itself: the caller knows whether that means GIL or ON_CPU."""

_BY_FD, _BY_POLL, _BY_SELECT, _BY_EPOLL, _FUTEX = range(200, 205)


def _table(groups):
    return {number: what for what, numbers in groups for number in numbers}


_X86_64 = _table((
    (_BY_FD, (0, 1, 16, 17, 18, 19, 20, 40, 42, 43, 44, 45, 46, 47, 288, 295, 296, 299, 307, 327, 328)),
    (_BY_POLL, (7, 271)),
    (_BY_SELECT, (23, 270)),
    (_BY_EPOLL, (232, 281, 441)),
    (_FUTEX, (202, 449)),
    (SLEEP, (34, 35, 230)),
    (CHILD, (61, 247)),
    (LOCK, (65, 73, 220)),
    (IPC, (69, 70, 242, 243)),
    (DISK, (2, 4, 5, 6, 21, 26, 74, 75, 76, 77, 78, 80, 82, 83, 84, 85, 87, 162, 208, 217, 257, 262, 263, 264, 277, 306, 332)),
))  # fmt: skip
_AARCH64 = _table((
    (_BY_FD, (29, 63, 64, 65, 66, 67, 68, 69, 70, 71, 202, 203, 206, 207, 211, 212, 242, 243, 269, 286, 287)),
    (_BY_POLL, (73,)),
    (_BY_SELECT, (72,)),
    (_BY_EPOLL, (22, 441)),
    (_FUTEX, (98, 449)),
    (SLEEP, (101, 115)),
    (CHILD, (95, 260)),
    (LOCK, (32, 192, 193)),
    (IPC, (182, 183, 188)),
    (DISK, (4, 34, 35, 38, 46, 48, 56, 61, 79, 80, 81, 82, 83, 84, 227, 267, 291, 292)),
))  # fmt: skip
_TABLES = {"x86_64": _X86_64, "amd64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}

_FD_SECONDS_NS = 1000000000


class Kernel:
    """Reads and names what a thread is blocked in."""

    def __init__(self):
        self._numbers = _TABLES.get(os.uname().machine, {})
        self._fds = {}
        self._ranges = None
        self._memory = None

    def open(self, tid):
        """Descriptor for :meth:`state`, -1 where the kernel does not offer it."""
        return opened("/proc/self/task/%d/syscall" % tid)

    def state(self, fd, now):
        """A Wait value or WANTS_GIL for the thread behind ``fd``."""
        try:
            text = os.pread(fd, 256, 0)
        except OSError:
            return UNKNOWN
        if text[:7] == b"running":
            return ON_CPU
        parts = text.split()
        try:
            number = int(parts[0])
            if number < 0:
                # Blocked outside a system call: a page that has to come from somewhere.
                return DISK
            what = self._numbers.get(number)
            if what is None:
                return OTHER if self._numbers else UNKNOWN
            if what < 200:
                return what
            first = int(parts[1], 16)
        except (IndexError, ValueError):
            return UNKNOWN
        if what == _FUTEX:
            return WANTS_GIL if self._in_interpreter(first) else LOCK
        if what == _BY_POLL:
            if parts[2:3] == [b"0x0"]:
                return SLEEP
            first = self._polled(first)
        elif what == _BY_SELECT:
            if not first:
                return SLEEP
            first -= 1
        return self._descriptor(first & 0xFFFFFFFF, now)

    def _descriptor(self, fd, now):
        known = self._fds.get(fd)
        if known is not None and now - known[1] < _FD_SECONDS_NS:
            return known[0]
        if len(self._fds) > 512:
            self._fds.clear()
        kind = _kind_of(fd)
        self._fds[fd] = (kind, now)
        return kind

    def _polled(self, address):
        """First descriptor of a ``poll`` array in our own memory."""
        try:
            if self._memory is None:
                self._memory = opened("/proc/self/mem")
            return int.from_bytes(os.pread(self._memory, 4, address), "little")
        except (OSError, OverflowError):
            return 0xFFFFFFFF

    def _in_interpreter(self, address):
        """Whether an address is static data of the interpreter: the GIL is, every lock object is on a heap or a stack."""
        if self._ranges is None:
            self._ranges = _interpreter_data()
        return any(low <= address < high for low, high in self._ranges)

    def close(self):
        """Release descriptors."""
        if self._memory is not None:
            close_quietly(self._memory)
            self._memory = None


def _kind_of(fd):
    try:
        target = os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        return OTHER
    if target.startswith("socket:"):
        return _socket_kind(fd)
    if target.startswith("pipe:") or target.startswith("anon_inode:[eventfd"):
        return IPC
    if target.startswith("anon_inode:[eventpoll"):
        return _epoll_kind(fd)
    if target.startswith("anon_inode:[timerfd"):
        return SLEEP
    if target.startswith("/") and not target.startswith(("/dev/", "/proc/", "/sys/", "/memfd:")):
        return DISK
    return OTHER


def _socket_kind(fd):
    try:
        found = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, os.dup(fd))
    except OSError:
        return NETWORK
    try:
        domain = found.getsockopt(_socket.SOL_SOCKET, getattr(_socket, "SO_DOMAIN", 39))
    except OSError:
        return NETWORK
    finally:
        found.close()
    return IPC if domain == _socket.AF_UNIX else NETWORK


def _epoll_kind(fd):
    try:
        with open("/proc/self/fdinfo/%d" % fd) as file:
            watched = [int(line.split()[1]) for line in file.read(8192).splitlines() if line.startswith("tfd:")]
        kinds = {_kind_of(item) for item in watched[:32] if item != fd}
    except (OSError, ValueError, IndexError, RecursionError):
        return OTHER
    for kind in (NETWORK, IPC, SLEEP):
        if kind in kinds:
            return kind
    return OTHER


def _interpreter_data():
    """Address ranges of the interpreter's writable static data."""
    ranges = []
    try:
        with open("/proc/self/maps") as file:
            end = -1
            for line in file:
                parts = line.split()
                low, high = [int(item, 16) for item in parts[0].split("-")]
                name = parts[5] if len(parts) > 5 else ""
                base = name.rsplit("/", 1)[-1]
                interpreter = base.startswith(("python", "libpython"))
                if parts[1].startswith("rw") and (interpreter or (not name and low == end)):
                    ranges.append((low, high))
                    end = high
                elif interpreter:
                    end = high
    except (OSError, ValueError, IndexError):
        pass
    return ranges
