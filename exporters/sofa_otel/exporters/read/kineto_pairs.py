"""Begin and end events: two of them are one."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw

from sofa_otel.exporters.read.kineto_event import Event, IdEvent
from sofa_otel.exporters.read.kineto_numbers import nanoseconds

BEGINS: Final = frozenset("Bb")
PAIRED: Final = frozenset("BEbe")


class Pairs:
    """Matches ``B`` with ``E`` on a thread and ``b`` with ``e`` of an id, innermost first. Holds what is open.

    Attributes:
        unmatched: Ends without a beginning, and beginnings passed over by the end of what is around them.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[Any, ...], list[Event]] = {}
        self.unmatched = 0

    def take(self, events: list[Event]) -> list[Event]:
        """Complete events of those that end here."""
        out: list[Event] = []
        for event in events:
            key: tuple[Any, ...] = (event.pid, event.tid)
            if event.ph in "be" and isinstance(event, IdEvent):
                key = (event.cat, event.id, event.pid, "async")
            if event.ph in BEGINS:
                # The text of a number keeps its whole chunk alive.
                event.ts = Raw(bytes(event.ts))
                self._open.setdefault(key, []).append(event)
                continue
            begun = self._begun(key, event)
            if begun is None:
                self.unmatched += 1
                continue
            out.append(self._complete(begun, nanoseconds(bytes(event.ts)), event))
        return out

    def rest(self, end_ns: int) -> list[Event]:
        """What never ended: it lasts to ``end_ns`` (in the file's clock)."""
        out = [self._complete(event, end_ns, None) for stack in self._open.values() for event in stack]
        self._open.clear()
        return out

    def _begun(self, key: tuple[Any, ...], end: Event) -> Event | None:
        stack = self._open.get(key)
        if not stack:
            return None
        at = len(stack) - 1
        if end.name and stack[at].name != end.name:
            at = next((i for i in range(at, -1, -1) if stack[i].name == end.name), -1)
            if at < 0:
                return None
            self.unmatched += len(stack) - at - 1
        begun = stack[at]
        del stack[at:]
        if not stack:
            del self._open[key]
        return begun

    @staticmethod
    def _complete(begun: Event, end_ns: int | None, end: Event | None) -> Event:
        start_ns = nanoseconds(bytes(begun.ts))
        spent = 0 if start_ns is None or end_ns is None else max(end_ns - start_ns, 0)
        args = begun.args if begun.args or end is None else end.args
        return Event(
            "X", begun.cat, begun.name, begun.pid, begun.tid, begun.ts, Raw(b"%d.%03d" % divmod(spent, 1000)), args,
        )  # fmt: skip
