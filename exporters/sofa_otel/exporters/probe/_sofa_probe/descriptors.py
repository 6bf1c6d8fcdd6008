"""Descriptors of the probe in somebody else's process: out of the way of its own numbers, closed only while still ours."""

import os

FIRST = 400


def raised(fd):
    """The same open file at a high number (a program may count on low ones); the old number where that cannot be."""
    try:
        import fcntl

        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST)
    except (ImportError, OSError):
        return fd
    os.close(fd)
    return high


def opened(path):
    """Read-only descriptor of a kernel file, -1 when there is none."""
    try:
        return raised(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return -1


def close_quietly(fd):
    """Close a descriptor of a kernel file, unless the program has closed it and uses the number for something else."""
    try:
        if fd >= 0 and os.readlink("/proc/self/fd/%d" % fd).startswith(("/proc/", "/sys/")):
            os.close(fd)
    except OSError:
        pass
