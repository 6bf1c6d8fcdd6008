"""Spans out over OTLP: a bounded queue, one background thread, whole requests of bytes.

The SDK's batch processor is built for span objects that cost ~33 µs each; here points and event batches are encoded together
(:mod:`sofa_otel.core.otlp`). A backend that is down costs memory up to the bound and then new spans, which are counted; never the
caller's time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Final

import msgspec

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.otlp.encode import encode_spans
from sofa_otel.core.otlp.events import EventEncoder
from sofa_otel.core.telemetry import Resource, Scope, SpanPoint
from sofa_otel.exporters.emit.transport import Sender, make_sender, resolve_endpoint

_FIRST_BACKOFF_S: Final = 1.0
_LONGEST_BACKOFF_S: Final = 30.0

_Item = tuple[SpanPoint, ...] | EventBatch


class SpanStats(msgspec.Struct, frozen=True, kw_only=True):
    """Spans accepted by the backend, lost (queue full or refused), and waiting."""

    sent: int
    dropped: int
    queued: int
    last_error: str = ""


class OtlpSpans:
    """Exports spans in the background.

    Args:
        resource, scope: Of every request.
        endpoint: Base address (``--otlp URL``); the ``OTEL_EXPORTER_OTLP_*`` variables decide when it is None.
        max_queue: Spans that may wait; ``OTEL_BSP_MAX_QUEUE_SIZE`` or 16,384 by default.
        max_batch: Spans of a request; ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` or 2,048.
        delay_s: Longest wait of a span before it is sent; ``OTEL_BSP_SCHEDULE_DELAY`` (ms) or 5 s.
        sender: Instead of the SDK's transport.
        note: Told once when the backend stops taking spans, and once when it takes them again.
        environ: Variables to read.

    Raises:
        UsageError: The endpoint or protocol is not usable.
        MissingExtraError: gRPC is wanted and not installed.
    """

    def __init__(
        self,
        resource: Resource | None = None,
        scope: Scope | None = None,
        endpoint: str | None = None,
        *,
        max_queue: int | None = None,
        max_batch: int | None = None,
        delay_s: float | None = None,
        sender: Sender | None = None,
        note: Callable[[str], None] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._resource = resource or Resource()
        self._scope = scope or Scope()
        self._max_queue = max_queue or _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", 16_384)
        self._max_batch = max_batch or _number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 2_048)
        self._delay_s = delay_s if delay_s is not None else _number(environ, "OTEL_BSP_SCHEDULE_DELAY", 5_000) / 1e3
        self._sender = sender or make_sender(resolve_endpoint(endpoint, "traces", environ))
        self._note = note
        self._events = EventEncoder()
        self._items: deque[_Item] = deque()
        self._queued = self._sent = self._dropped = 0
        self._last_error = ""
        self._busy = self._urgent = self._stopping = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, name="sofa-otlp-spans", daemon=True)
        self._thread.start()

    def export(self, spans: Iterable[SpanPoint]) -> None:
        """Queue spans; returns at once. Neighbours of one trace are taken together or dropped together."""
        for _, trace in groupby(spans, key=lambda span: span.trace_id):
            item = tuple(trace)
            self._put(item, len(item))

    def export_events(self, batch: EventBatch) -> None:
        """Queue the rows of ``batch`` as spans; returns at once."""
        for start in range(0, len(batch), self._max_batch):
            part = batch.take(slice(start, start + self._max_batch))
            self._put(part, len(part))

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Send what waits now; True when nothing is left."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._items and not self._busy, timeout_s)

    def stop(self, timeout_s: float = 5.0) -> SpanStats:
        """Flush for at most ``timeout_s``, drop the rest, and end the thread. Idempotent."""
        if self._thread is not None:
            self.flush(timeout_s)
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            self._sender.close()
            self._thread.join(timeout=timeout_s + 1)
            self._thread = None
        return self.stats()

    def stats(self) -> SpanStats:
        """Own account so far."""
        with self._changed:
            return SpanStats(sent=self._sent, dropped=self._dropped, queued=self._queued, last_error=self._last_error)

    def _put(self, item: _Item, size: int) -> None:
        with self._changed:
            if self._stopping or self._queued + size > self._max_queue:
                self._dropped += size
                return
            self._items.append(item)
            self._queued += size
            if self._queued >= self._max_batch:
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._due, self._delay_s)
                batch = self._take()
                self._busy = bool(batch)
                if not batch:
                    self._urgent = False
                    self._changed.notify_all()
                    if self._stopping:
                        return
                    continue
            size = sum(len(item) for item in batch)
            delivered = self._deliver(batch)
            with self._changed:
                self._busy = False
                self._queued -= size
                if delivered:
                    self._sent += size
                else:
                    self._dropped += size
                self._changed.notify_all()

    def _due(self) -> bool:
        return self._stopping or self._queued >= self._max_batch or (self._urgent and bool(self._items))

    def _take(self) -> list[_Item]:
        """Items for one request: event batches go alone, for they bring a resource of their own."""
        taken: list[_Item] = []
        size = 0
        while self._items:
            item = self._items[0]
            if taken and (isinstance(item, EventBatch) or size + len(item) > self._max_batch):
                break
            taken.append(self._items.popleft())
            size += len(item)
            if isinstance(item, EventBatch):
                break
        return taken

    def _deliver(self, batch: list[_Item]) -> bool:
        head = batch[0]
        if isinstance(head, EventBatch):
            body = self._events.encode(head, self._resource)
        else:
            spans = (span for item in batch if isinstance(item, tuple) for span in item)
            body = encode_spans(spans, self._resource, self._scope)
        backoff = _FIRST_BACKOFF_S
        while True:
            result = self._sender.send(body)
            if result.ok:
                self._say("" if not self._last_error else "the OTLP backend takes spans again")
                self._last_error = ""
                return True
            if not self._last_error:
                self._say(
                    f"the OTLP backend does not take spans ({result.reason}); up to {self._max_queue} wait, then they are dropped"
                )
            self._last_error = result.reason
            if not result.retry or self._stopping:
                return False
            if not self._pause(backoff):
                return False
            backoff = min(2 * backoff, _LONGEST_BACKOFF_S)

    def _pause(self, seconds: float) -> bool:
        """Wait; False when it was cut short by the end."""
        until = time.monotonic() + seconds
        with self._changed:
            return not self._changed.wait_for(lambda: self._stopping, max(0.0, until - time.monotonic()))

    def _say(self, text: str) -> None:
        if text and self._note is not None:
            self._note(text)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    return int(text) if text.isdecimal() and int(text) > 0 else default
