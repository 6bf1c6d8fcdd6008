"""Event kinds: the one-byte vocabulary that lets a dozen sources share one set of columns."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What an event row is. The values are on disk and on the wire: append, never renumber."""

    UNKNOWN = 0
    CPU_SAMPLE = 1
    PYTHON_SAMPLE = 2
    PYTHON_CALL = 3
    SYSCALL = 4
    SCHED = 5
    CPU_OP = 6
    GPU_RUNTIME = 7
    GPU_KERNEL = 8
    GPU_COPY = 9
    GPU_SYNC = 10
    COLLECTIVE = 11
    NET = 12
    DISK = 13
    MEMORY = 14
    SPAN = 15
    MARK = 16
    """A step mark written by the program (``ProfilerStep#7``). Never fed to the detector."""


class Wait(IntEnum):
    """Subkind of ``PYTHON_SAMPLE`` and ``CPU_SAMPLE``: what the thread was doing at the instant of the sample."""

    UNKNOWN = 0
    ON_CPU = 1
    LOCK = 2
    """Blocked on a futex that is not the interpreter lock."""
    GIL = 3
    """Runnable in Python, waiting for the interpreter lock."""
    DISK = 4
    NETWORK = 5
    IPC = 6
    """Blocked on a pipe or a local socket: usually another process of the job."""
    SLEEP = 7
    CHILD = 8
    """Blocked in wait4 and the like."""
    OTHER = 9


class Call(IntEnum):
    """Subkind of ``PYTHON_CALL``: how the call was seen."""

    UNKNOWN = 0
    ENTRY = 1
    """``sys.monitoring`` PY_START; ``duration_ns`` is 0."""
    LOOP = 2
    """A backward jump to a loop head (``sys.monitoring`` JUMP): one iteration of that loop ended here. The symbol's
    ``offset`` and ``line`` are the loop head's."""
    HOOK = 3
    """A library hook of the probe (optimiser step, DataLoader fetch …) with its duration."""
    HOT = 4
    """A loop that turns too fast to be followed, told once; ``duration_ns`` is the mean time of a turn."""


class Futex(IntEnum):
    """Subkind of ``SYSCALL`` rows whose name is ``futex``."""

    UNKNOWN = 0
    WAIT = 1
    WAKE = 2


class Copy(IntEnum):
    """Subkind of ``GPU_COPY``: direction."""

    UNKNOWN = 0
    H2D = 1
    D2H = 2
    D2D = 3
    P2P = 4
    MEMSET = 5


class Direction(IntEnum):
    """Subkind of ``NET`` and ``DISK``."""

    UNKNOWN = 0
    READ = 1
    WRITE = 2
