"""Where a process's control groups are: version 1, version 2, hybrid, and as a container sees them.

``/proc/PID/cgroup`` names the group of each hierarchy, ``mountinfo`` where hierarchies are mounted and which part of them. A
container shows either the whole path with a mount that starts at the container's group, or (cgroup namespace) both as ``/``.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from sofa_otel.exporters.collect.kernel_file import read_text

UNIFIED: Final = ""
"""Key of the version 2 hierarchy."""

_CONTROLLERS: Final = frozenset(
    ("cpu", "cpuacct", "cpuset", "memory", "blkio", "pids", "devices", "freezer", "net_cls", "net_prio", "perf_event", "hugetlb")
)


class Mount(NamedTuple):
    """A mounted hierarchy: its controllers (``""`` for version 2), the group at its root and where that root is."""

    controllers: tuple[str, ...]
    group: str
    point: str


class Layout(NamedTuple):
    """Directories of a process's groups by controller (``""``: version 2), the own group first, then its ancestors."""

    directories: dict[str, list[str]]

    def of(self, controller: str) -> tuple[int, list[str]]:
        """``(version, directories)`` that hold a controller's files; ``(0, [])`` when nothing does."""
        if controller in self.directories:
            return 1, self.directories[controller]
        if UNIFIED in self.directories:
            return 2, self.directories[UNIFIED]
        return 0, []


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Control-group mounts in ``/proc/PID/mountinfo``, proc(5)."""
    out = []
    for line in mountinfo.splitlines():
        left, found, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if not found or len(fields) < 5 or len(rest) < 3:
            continue
        group, point = (re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
        if rest[0] == "cgroup2":
            out.append(Mount((UNIFIED,), group, point))
        elif rest[0] == "cgroup":
            out.append(Mount(tuple(name for name in rest[2].split(",") if name in _CONTROLLERS), group, point))
    return out


def parse_groups(text: str) -> dict[str, str]:
    """Group by controller (``""``: version 2) from ``/proc/PID/cgroup``."""
    out: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, found, group = rest.partition(":")
        if not found or not number.isdecimal():
            continue
        for controller in controllers.split(","):
            if controller in _CONTROLLERS or (controller == "" and number == "0"):
                out[controller] = group.removesuffix(" (deleted)")
    return out


def find_layout(root: str, pid: int, group: str = "") -> Layout:
    """Directories of the groups of ``pid`` as seen from the reading process.

    Args:
        root: Prefix of ``/proc`` and of every mount point.
        pid: Process, 0 for the reading one.
        group: Group to take in every hierarchy instead of the process's own.
    """
    own = parse_groups(read_text(os.path.join(root, "proc", str(pid or "self"), "cgroup")))
    directories: dict[str, list[str]] = {}
    for mount in parse_mounts(read_text(os.path.join(root, "proc/self/mountinfo"))):
        for controller in mount.controllers:
            path = group or own.get(controller)
            if path is None or controller in directories:
                continue
            found = _ancestry(root, mount, path)
            if found:
                directories[controller] = found
    return Layout(directories)


def _ancestry(root: str, mount: Mount, path: str) -> list[str]:
    """The group's directory and those above it, up to the mount point."""
    top = os.path.join(root, mount.point.lstrip("/"))
    inside = path
    if mount.group != "/":
        # The mount starts below the hierarchy's root: the part of the path above it cannot be seen.
        inside = path[len(mount.group) :] if (path + "/").startswith(mount.group + "/") else "/"
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:
        parts = []
    out = [os.path.join(top, *parts[:depth]) for depth in range(len(parts), -1, -1)]
    return [directory for directory in out if os.path.isdir(directory)]
