"""Pressure stall information: the share of time in which work waited for CPU, memory or disk, measured by the kernel itself."""

from __future__ import annotations

import os
from typing import Final

from sofa_otel.core import names
from sofa_otel.exporters.collect.kernel_file import KernelFile
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collector import Capability, Target

_RESOURCES: Final = ("cpu", "memory", "io")
_KINDS: Final = ("some", "full")


def parse_pressure(data: bytes) -> dict[str, int]:
    """Stall time in microseconds by kind (``some``: at least one task waited, ``full``: all did)."""
    out: dict[str, int] = {}
    for line in data.splitlines():
        kind, _, rest = line.partition(b" ")
        at = rest.rfind(b"total=")
        if at >= 0:
            out[kind.decode("ascii", "replace")] = int(rest[at + 6 :])
    return out


class PsiCollector(PolledCollector):
    """``/proc/pressure/{cpu,memory,io}`` of the host."""

    name = "psi"
    interval_s = 2.0
    provides = "time in which tasks of the host waited for CPU, memory or disk"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._watched: list[tuple[KernelFile, dict[str, int]]] = []

    def probe(self) -> Capability:
        """Needs a kernel built and booted with PSI."""
        path = os.path.join(self.root, "proc/pressure/cpu")
        if KernelFile(path, keep=False).read():
            return Capability(usable=True, provides=self.provides)
        return Capability(
            usable=False,
            provides=self.provides,
            missing="/proc/pressure cannot be read",
            remedy="boot a kernel ≥ 4.20 with CONFIG_PSI and without psi=0; everything else works without it",
        )

    def _open(self, target: Target) -> None:
        self._watched = [
            (
                self._file("proc/pressure", resource),
                {
                    kind: self._series(names.PRESSURE_TIME, {names.PRESSURE_RESOURCE: resource, names.PRESSURE_KIND: kind})
                    for kind in _KINDS
                },
            )
            for resource in _RESOURCES
        ]

    def _read(self, now_ns: int) -> None:
        for file, series in self._watched:
            for kind, micros in parse_pressure(file.read()).items():
                if kind in series:
                    self._put(series[kind], micros * 1e-6)
