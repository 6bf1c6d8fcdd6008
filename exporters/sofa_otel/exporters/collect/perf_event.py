"""``perf_event_open`` through ctypes: descriptors that die with this process, so nothing can be left behind in the kernel.

Only what the system call collector needs: tracepoint events of one task and its descendants, one ring for each CPU, a filter
that the kernel applies, and whole records copied out of a ring in one piece. See perf_event_open(2) and
``include/uapi/linux/perf_event.h``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
from typing import Final, Self

SYS_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}

TYPE_SOFTWARE: Final = 1
TYPE_TRACEPOINT: Final = 2
SOFTWARE_DUMMY: Final = 9
SAMPLE_TID: Final = 1 << 1
SAMPLE_TIME: Final = 1 << 2
SAMPLE_CPU: Final = 1 << 7
SAMPLE_RAW: Final = 1 << 10

RECORD_LOST: Final = 2
RECORD_SAMPLE: Final = 9

_FLAG_DISABLED: Final = 1 << 0
_FLAG_INHERIT: Final = 1 << 1
_FLAG_EXCLUDE_KERNEL: Final = 1 << 5
_FLAG_SAMPLE_ID_ALL: Final = 1 << 18
_FLAG_WATERMARK: Final = 1 << 14
_FLAG_USE_CLOCKID: Final = 1 << 25
_FD_CLOEXEC: Final = 1 << 3

_IOC_ENABLE: Final = 0x2400
_IOC_DISABLE: Final = 0x2401
_IOC_SET_OUTPUT: Final = 0x2405
_IOC_SET_FILTER: Final = 0x40082406

_HEAD: Final = 1024
"""Offset of ``data_head`` in ``perf_event_mmap_page``; ``data_tail`` follows."""

_PAGE: Final = mmap.PAGESIZE
_ATTR_SIZE: Final = 112
"""PERF_ATTR_SIZE_VER5: understood by every kernel since 4.1, has ``clockid``."""

_libc = ctypes.CDLL(None, use_errno=True)


class Fence:
    """Read and write barriers around ``data_head`` and ``data_tail``.

    On x86_64 loads are not reordered with loads, nor stores with older loads, and ctypes calls keep the compiler out. On other
    processors an uncontended pthread mutex gives the acquire and release that the ring protocol asks for.
    """

    def __init__(self) -> None:
        self._mutex = ctypes.create_string_buffer(64) if platform.machine() != "x86_64" else None

    def __call__(self) -> None:
        """A full barrier."""
        if self._mutex is not None:
            _libc.pthread_mutex_lock(self._mutex)
            _libc.pthread_mutex_unlock(self._mutex)


def attribute(config: int) -> bytes:
    """``struct perf_event_attr`` of a tracepoint: every hit, with thread, CLOCK_MONOTONIC time, CPU and raw data, inherited.

    ``config`` 0 makes the dummy event that only owns a ring.
    """
    flags = _FLAG_DISABLED | _FLAG_SAMPLE_ID_ALL | _FLAG_WATERMARK | _FLAG_USE_CLOCKID
    if config:
        flags |= _FLAG_INHERIT
    attr = bytearray(_ATTR_SIZE)
    sample_type = SAMPLE_TID | SAMPLE_TIME | SAMPLE_CPU | SAMPLE_RAW
    kind, config = (TYPE_TRACEPOINT, config) if config else (TYPE_SOFTWARE, SOFTWARE_DUMMY)
    if kind == TYPE_SOFTWARE:
        flags |= _FLAG_EXCLUDE_KERNEL  # what an unprivileged user may open
    struct.pack_into("<IIQQQQQ", attr, 0, kind, _ATTR_SIZE, config, 1, sample_type, 0, flags)
    # A watermark that is never reached: the ring is polled, nobody is woken.
    struct.pack_into("<I", attr, 48, 0x7FFFFFFF)
    struct.pack_into("<i", attr, 92, 1)  # CLOCK_MONOTONIC
    return bytes(attr)


class Event:
    """One perf event: a tracepoint of one task (and what it starts) on one CPU.

    Args:
        config: Tracepoint id, 0 for a dummy.
        tid: Thread, 0 for the calling one.
        cpu: CPU.

    Raises:
        OSError: The kernel refused (``EACCES``, ``EPERM``: permission; ``ESRCH``: the thread has gone; ``ENOENT``: no such id).
    """

    __slots__ = ("fd",)

    def __init__(self, config: int, tid: int, cpu: int) -> None:
        number = SYS_PERF_EVENT_OPEN.get(platform.machine())
        if number is None:
            raise OSError(errno.ENOSYS, f"perf_event_open is not known on {platform.machine()}")
        attr = attribute(config)
        fd = _libc.syscall(number, attr, ctypes.c_int(tid), ctypes.c_int(cpu), ctypes.c_int(-1), ctypes.c_ulong(_FD_CLOEXEC))
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self.fd: int = fd

    def enable(self, on: bool = True) -> None:
        """Count or pause, in all descendants too."""
        fcntl.ioctl(self.fd, _IOC_ENABLE if on else _IOC_DISABLE, 0)

    def output_to(self, other: Event) -> None:
        """Write into the ring of another event of the same CPU."""
        fcntl.ioctl(self.fd, _IOC_SET_OUTPUT, other.fd)

    def filter(self, expression: str) -> None:
        """Keep only hits for which the kernel finds ``expression`` true. Descendants use their ancestor's filter.

        An event takes a filter once in its life: another one needs another event (``EEXIST``).
        """
        buffer = ctypes.create_string_buffer(expression.encode())
        if _libc.ioctl(self.fd, ctypes.c_ulong(_IOC_SET_FILTER), buffer) < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"filter {expression!r}: {os.strerror(code)}")

    def close(self) -> None:
        """Close the descriptor: the kernel drops the event and all its inherited copies."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Ring:
    """The memory that events of one CPU are written to.

    Args:
        event: The event whose ring it is.
        size: Bytes, a power of two times the page size; halved until the kernel's limit on locked memory lets it pass.

    Raises:
        OSError: Not even one page is allowed.
    """

    def __init__(self, event: Event, size: int) -> None:
        self._fence = Fence()
        while True:
            try:
                self._map = mmap.mmap(event.fd, _PAGE + size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                break
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOMEM) or size <= _PAGE:
                    raise
                size //= 2
        self.size = size
        self._head = ctypes.c_uint64.from_buffer(self._map, _HEAD)
        self._tail = ctypes.c_uint64.from_buffer(self._map, _HEAD + 8)

    def take(self) -> bytes:
        """All whole records since the last call, in one piece."""
        head = self._head.value
        self._fence()
        tail = self._tail.value
        size, length = self.size, head - tail
        if not length:
            return b""
        begin, end = tail % size, head % size
        if begin < end:
            data = self._map[_PAGE + begin : _PAGE + end]
        else:
            data = self._map[_PAGE + begin : _PAGE + size] + self._map[_PAGE : _PAGE + end]
        self._fence()
        self._tail.value = head
        return data

    def close(self) -> None:
        """Unmap."""
        if not self._map.closed:
            del self._head, self._tail
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
