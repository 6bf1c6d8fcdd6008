"""Where tracefs is, whether it can be read, and the ids of tracepoints in it."""

from __future__ import annotations

import os
from typing import Final

from sofa_otel.exporters.collect.kernel_file import read_text

_PLACES: Final = ("sys/kernel/tracing", "sys/kernel/debug/tracing")


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
    return int(text) if text.isdecimal() else 0
