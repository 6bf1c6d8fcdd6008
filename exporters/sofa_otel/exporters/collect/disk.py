"""Block devices: bytes, operations and busy time. Partitions are left out, since their device counts the same transfers."""

from __future__ import annotations

import os
import re
from typing import Final

from sofa_otel.core import names
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collector import Capability, Target

SECTOR: Final = 512
"""``/proc/diskstats`` counts in sectors of 512 bytes whatever the device's own are (Documentation/admin-guide/iostats.rst)."""

_PARTITION: Final = re.compile(r"((sd|vd|xvd|hd)[a-z]+\d+|(nvme\d+n\d+|mmcblk\d+|loop\d+|nbd\d+|md\d+)p\d+)$")

_FIELDS: Final = 11


def parse_diskstats(data: bytes) -> dict[str, list[int]]:
    """Eleven counters of each device: reads, merged, sectors, ms; the same of writes; in flight, busy ms, weighted ms."""
    out: dict[str, list[int]] = {}
    for line in data.splitlines():
        fields = line.split()
        if len(fields) >= 3 + _FIELDS:
            out[fields[2].decode("utf-8", "replace")] = [int(field) for field in fields[3 : 3 + _FIELDS]]
    return out


class DiskCollector(PolledCollector):
    """``/proc/diskstats``. Devices without any transfer are left out until they have one."""

    name = "disk"
    interval_s = 1.0
    provides = "bytes, operations and busy time of each block device"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._devices: dict[str, list[int]] = {}

    def probe(self) -> Capability:
        """Needs /proc/diskstats."""
        if os.path.exists(os.path.join(self.root, "proc/diskstats")):
            return Capability(usable=True, provides=self.provides)
        return Capability(usable=False, provides=self.provides, missing="/proc/diskstats", remedy="mount -t proc proc /proc")

    def _open(self, target: Target) -> None:
        self._stats = self._file("proc/diskstats")
        self._devices.clear()

    def _read(self, now_ns: int) -> None:
        for device, f in parse_diskstats(self._stats.read()).items():
            series = self._devices.get(device)
            if series is None:
                if not any(f):
                    continue
                series = self._devices[device] = self._make(device)
            if not series:
                continue
            values = (f[2] * SECTOR, f[6] * SECTOR, f[0], f[4], f[3] * 1e-3, f[7] * 1e-3, f[9] * 1e-3)
            for index, value in zip(series, values, strict=True):
                self._put(index, value)

    def _make(self, device: str) -> list[int]:
        """Series of a device; none for a partition."""
        if self._is_partition(device):
            return []
        base = {names.SYSTEM_DEVICE: device}
        read, write = base | {names.DISK_DIRECTION: "read"}, base | {names.DISK_DIRECTION: "write"}
        return [
            *(self._series(names.SYSTEM_DISK_IO, way) for way in (read, write)),
            *(self._series(names.SYSTEM_DISK_OPERATIONS, way) for way in (read, write)),
            *(self._series(names.SYSTEM_DISK_OPERATION_TIME, way) for way in (read, write)),
            self._series(names.SYSTEM_DISK_IO_TIME, base),
        ]

    def _is_partition(self, device: str) -> bool:
        # sysfs knows for sure; a container may hide it, then the names of the common drivers decide.
        if os.path.isdir(os.path.join(self.root, "sys/block")):
            return not os.path.exists(os.path.join(self.root, "sys/block", device.replace("/", "!")))
        return _PARTITION.match(device) is not None
