"""Interfaces and TCP as the target's network namespace sees them: a container's own ``eth0``, not the host's."""

from __future__ import annotations

import os

from sofa_otel.core import names
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collector import Capability, Target

_COUNTERS = (
    names.SYSTEM_NETWORK_IO,
    names.SYSTEM_NETWORK_PACKETS,
    names.SYSTEM_NETWORK_ERRORS,
    names.SYSTEM_NETWORK_DROPPED,
)
"""The first four counters of each direction of ``/proc/net/dev``."""


def parse_interfaces(data: bytes) -> dict[str, list[int]]:
    """Bytes, packets, errors, drops received and then sent, by interface name."""
    out: dict[str, list[int]] = {}
    for line in data.splitlines()[2:]:
        name, found, rest = line.rpartition(b":")
        fields = rest.split()
        if found and len(fields) >= 12:
            out[name.strip().decode("utf-8", "replace")] = [int(field) for field in fields[:4] + fields[8:12]]
    return out


def parse_tcp(data: bytes) -> dict[str, int]:
    """The ``Tcp`` counters of ``/proc/net/snmp`` by name: a line of names is followed by a line of values."""
    at = data.find(b"Tcp: ")
    lines = data[at:].splitlines()[:2] if at >= 0 else []
    if len(lines) < 2:
        return {}
    keys, values = lines[0].split()[1:], lines[1].split()[1:]
    return {key.decode("ascii", "replace"): int(value) for key, value in zip(keys, values, strict=False)}


class NetworkCollector(PolledCollector):
    """``/proc/PID/net/{dev,snmp}``. Interfaces without traffic are left out until they have some."""

    name = "network"
    interval_s = 1.0
    provides = "bytes, packets, errors and drops of each interface, TCP segments and retransmits"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._interfaces: dict[str, list[int]] = {}

    def probe(self) -> Capability:
        """Needs /proc/net."""
        if any(os.path.exists(os.path.join(self.root, "proc", path)) for path in ("self/net/dev", "net/dev")):
            return Capability(usable=True, provides=self.provides)
        return Capability(usable=False, provides=self.provides, missing="/proc/net/dev", remedy="mount -t proc proc /proc")

    def _open(self, target: Target) -> None:
        # A descriptor on /proc/PID/net stays in that namespace after the process has gone.
        self._dev = self._file("proc", str(target.pid or "self"), "net/dev")
        self._snmp = self._file("proc", str(target.pid or "self"), "net/snmp")
        self._interfaces.clear()
        self._retransmits = self._series(names.TCP_RETRANSMITS)
        self._segments = [self._series(names.TCP_SEGMENTS, {names.NETWORK_DIRECTION: way}) for way in ("receive", "transmit")]

    def _read(self, now_ns: int) -> None:
        for interface, counters in parse_interfaces(self._dev.read()).items():
            series = self._interfaces.get(interface)
            if series is None:
                if not any(counters):
                    continue
                series = self._interfaces[interface] = [
                    self._series(metric, {names.NETWORK_INTERFACE: interface, names.NETWORK_DIRECTION: way})
                    for way in ("receive", "transmit")
                    for metric in _COUNTERS
                ]
            for index, value in zip(series, counters, strict=True):
                self._put(index, value)
        tcp = parse_tcp(self._snmp.read())
        if tcp:
            self._put(self._retransmits, tcp.get("RetransSegs", 0))
            self._put(self._segments[0], tcp.get("InSegs", 0))
            self._put(self._segments[1], tcp.get("OutSegs", 0))
