"""What of a ``perf.data`` could not be read or used, told once at its end."""

from __future__ import annotations

from collections import Counter
from typing import Final

from sofa_otel.exporters.read.perf_data_scan import Scanner

_MOST: Final = 8


class Losses:
    """Counts by kind.

    Attributes:
        lost: Events that the kernel says it lost.
        damaged: Samples that contradict themselves.
        timeless: Samples without a time.
        unused: Samples by event that say nothing about time.
    """

    def __init__(self) -> None:
        self.lost = self.damaged = self.timeless = 0
        self.unused: Counter[str] = Counter()

    def told(self, scanner: Scanner, early: str, *, complete: bool) -> list[str]:
        """One sentence a kind of loss.

        Args:
            scanner: What it found.
            early: Why the input ended early, empty when it did not.
            complete: Whether the file says itself that it is.
        """
        out = []
        if early:
            out.append(f"byte {scanner.position}: it ends early ({early})")
        if scanner.left or not complete:
            out.append(f"byte {scanner.position}: it is cut off")
        if scanner.skipped:
            out.append(f"byte {scanner.first_skipped}: {scanner.skipped} bytes are no records and were left out")
        if scanner.skipped_inside:
            out.append(f"{scanner.skipped_inside} bytes of compressed records are no records and were left out")
        if scanner.broken:
            out.append(f"byte {scanner.first_broken}: {scanner.broken} compressed records cannot be read and were left out")
        if self.damaged:
            out.append(f"{self.damaged} damaged samples were left out")
        if self.lost:
            out.append(f"the kernel lost {self.lost} events while recording (give perf record a larger -m)")
        if self.timeless:
            out.append(f"{self.timeless} samples have no time (record with -T): they stand in the order of the file")
        for event, count in self.unused.most_common(_MOST):
            out.append(f"{count} samples of {event or 'an event without a name'} say nothing about time and were left out")
        return out
