"""Pod and container of a process, from the text of its ``/proc/PID/cgroup`` or ``mountinfo``.

Every runtime writes them in its own way (cgroup v1 and v2, cgroupfs and systemd drivers, containerd, CRI-O, Docker, Podman); the
ids themselves are recognisable in all of them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_UUID: Final = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
_POD: Final = re.compile(rf"(?:^|[/-])pod({_UUID}|[0-9a-f]{{32}})(?:\.slice)?(?=[/:]|$)")
_CONTAINER: Final = re.compile(r"(?:^|/|[a-z]-|:)([0-9a-f]{64})(?:\.scope)?(?=/|$)")
_MOUNT_POD: Final = re.compile(rf"/kubelet/pods/({_UUID}|[0-9a-f]{{32}})/")
_MOUNT_CONTAINER: Final = re.compile(r"/(?:containers|sandboxes|overlay-containers)/([0-9a-f]{64})/")


class Place(NamedTuple):
    """Where a process runs; empty where it is in no container, or where that is not visible."""

    pod_uid: str = ""
    container_id: str = ""


def container_of(cgroup: str, mountinfo: str = "") -> Place:
    """Pod uid (with dashes) and 64-digit container id.

    Args:
        cgroup: Text of ``/proc/PID/cgroup``.
        mountinfo: Text of ``/proc/PID/mountinfo``; read where a control-group namespace hides the path.
    """
    pod = container = ""
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        # In a node that is itself a container the innermost one is last.
        pods, containers = _POD.findall(path), _CONTAINER.findall(path)
        pod = pod or (pods[-1] if pods else "")
        container = container or (containers[-1] if containers else "")
    for line in mountinfo.splitlines():
        if not pod and (match := _MOUNT_POD.search(line)):
            pod = match[1]
        if not container and " /etc/hostname " in line and (match := _MOUNT_CONTAINER.search(line)):
            container = match[1]
    return Place(pod.replace("_", "-"), container)
