"""Where tracefs is, whether it can be read, and the ids of tracepoints in it."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import Final

from sofa_otel.exporters.collect.kernel_file import read_text

_PLACES: Final = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
_CLONE_NEWNS: Final = 0x0002_0000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x4_0000
_READ_ONLY: Final = 0x1 | 0x2 | 0x4 | 0x8
"""MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC."""


def find_tracefs(root: str = "/") -> str:
    """Directory of a mounted tracefs that can be read; empty when there is none.

    Looks at the two usual places, then at whatever ``/proc/self/mountinfo`` names. It mounts nothing.
    """
    places = [os.path.join(root, place) for place in _PLACES]
    for line in read_text(os.path.join(root, "proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("tracefs "):
            places.append(os.path.join(root, left.split(" ")[4].lstrip("/")))
    return next((place for place in places if os.path.exists(os.path.join(place, "events"))), "")


def tracefs_problem(root: str = "/") -> tuple[str, str]:
    """``(missing, remedy)`` when no tracefs can be read; two empty strings otherwise."""
    if tracepoint_id("raw_syscalls", "sys_enter", root):
        return "", ""
    found = find_tracefs(root)
    mounted = any(" - tracefs " in line for line in read_text(os.path.join(root, "proc/self/mountinfo")).splitlines())
    if (
        found
        and os.access(os.path.join(found, "events"), os.X_OK)
        and not os.path.isdir(os.path.join(found, "events/raw_syscalls"))
    ):
        return "the kernel has no raw_syscalls tracepoints", "use a kernel with CONFIG_FTRACE_SYSCALLS"
    if found or mounted:
        return (
            f"{found or 'tracefs'} is mounted but this user cannot read it",
            "as root: mount -o remount,gid=GROUP,mode=750 /sys/kernel/tracing, with GROUP a group of this user's",
        )
    return "tracefs is not mounted", "as root: mount -t tracefs nodev /sys/kernel/tracing"


def tracepoint_id(system: str, event: str, root: str = "/") -> int:
    """Id of a tracepoint, 0 when it cannot be read."""
    base = find_tracefs(root)
    text = read_text(os.path.join(base, "events", system, event, "id")).strip() if base else ""
    if not base and root == "/":
        text = _read_privately(system, event)
    return int(text) if text.isdecimal() else 0


@cache
def _read_privately(system: str, event: str) -> str:
    """The id's text from a tracefs that only one short-lived thread sees.

    Many hosts do not mount tracefs, and mounting it for all is not ours to do. A thread with a mount namespace of its own can
    (with CAP_SYS_ADMIN); the namespace and the mount go with the thread. Empty where that is not allowed.
    """
    found: list[str] = []

    def look() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
            return
        if libc.mount(b"nodev", b"/sys/kernel/tracing", b"tracefs", _READ_ONLY, None):
            return
        found.append(read_text(f"/sys/kernel/tracing/events/{system}/{event}/id").strip())

    thread = threading.Thread(target=look, name="sofa-tracefs")
    thread.start()
    thread.join()  # before anything forks: the caller has one thread again
    return found[0] if found else ""
