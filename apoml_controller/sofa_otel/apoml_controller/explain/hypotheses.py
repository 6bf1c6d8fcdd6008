"""Hypothesis: one rule's claim about one cause, before claims are ranked against each other."""

from __future__ import annotations

import msgspec

from sofa_otel.core.names import FindingId, Severity
from sofa_otel.core.records import Gain
from sofa_otel.core.report import FindingItem


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with the figures it rests on.

    Attributes:
        lost: Share (0..1) of the step time that this cause explains; ranks claims and bounds the gain.
        metric, value, reference: The deciding figure and the threshold it exceeded.
        explains: Findings that are mere symptoms when this one holds; they are ranked behind it.
    """

    id: FindingId
    title: str
    lost: float
    metric: str
    value: float
    reference: float
    evidence: list[str]
    suggestion: str
    explains: tuple[FindingId, ...] = ()

    @property
    def severity(self) -> Severity:
        """Critical from half of the step on, warning from a tenth on."""
        if self.lost >= 0.5:
            return Severity.CRITICAL
        return Severity.WARNING if self.lost >= 0.1 else Severity.INFO

    def gain(self) -> Gain | None:
        """Predicted old/new ratio: at most all of the lost share comes back (Amdahl), at the least a quarter of it."""
        lost = min(max(self.lost, 0.0), 0.95)
        if lost < 0.02:
            return None
        return Gain(low=1 / (1 - lost / 4), mid=1 / (1 - lost * 0.6), high=1 / (1 - lost))

    def finding(self, rank: int) -> FindingItem:
        """The claim as the report shows it."""
        return FindingItem(
            id=self.id, severity=self.severity, title=self.title, evidence=self.evidence, suggestion=self.suggestion,
            predicted_gain=self.gain(), rank=rank, metric=self.metric, value=self.value, reference=self.reference,
        )  # fmt: skip
