"""Trace events as typed records: the fields that are read, and how an event that is not quite JSON is read all the same."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

Scalar = str | int | float | bool | None


class Args(Struct, gc=False):
    """The arguments that are read, of any version of PyTorch."""

    external: Scalar = field(default=0, name="External id")
    correlation: Scalar = 0
    device: Scalar = -1
    stream: Scalar = -1
    bytes: Scalar = 0
    old_external: Scalar = field(default=0, name="external id")
    memory: Scalar = field(default=0, name="Bytes")
    memory_device: Scalar = field(default=-1, name="Device Id")
    sent: Scalar = field(default=0, name="In msg nelems")
    received: Scalar = field(default=0, name="Out msg nelems")
    dtype: Scalar = ""


Arguments = Args | list[Any] | str | int | float | bool | None


class Event(Struct, gc=False):
    """One trace event; ``ts`` and ``dur`` as they are written."""

    ph: str = ""
    cat: Scalar = ""
    name: Scalar = ""
    pid: Scalar = 0
    tid: Scalar = 0
    ts: Raw = Raw(b"")
    dur: Raw = Raw(b"")
    args: Arguments = None


class IdEvent(Event, gc=False):
    """An event with what ties the two ends of an asynchronous one; only read where there are any, for it takes time."""

    id: Scalar = None


BROKEN: Final = (ValueError, RecursionError)
"""What msgspec raises for what is no JSON or of another type."""

_MENDED: Final = 1 << 20
_NO_NUMBER: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[-+]?\b(?:nan|inf(?:inity)?)\b(?:\(\w*\))?', re.I | re.S)
_ESCAPE: Final = re.compile(
    rb'\\(?:["\\/bfnrt]|u(?!d[89a-f])[0-9a-f]{4}|ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|u(?=d[89a-f]))|\\', re.I
)
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
_one: Final = msgspec.json.Decoder(IdEvent)
_parts: Final = msgspec.json.Decoder(dict[str, Raw])


def decode(text: bytes) -> Event | None:
    """One event of its text, mended if need be; fields of an unexpected type are left out. None when it is none."""
    for mended in (False, True):
        if mended:
            if len(text) > _MENDED:
                break
            text = _mend(text)
        try:
            event: Event = _one.decode(text)
        except BROKEN:
            continue
        return event
    return _loose(text)


def _mend(text: bytes) -> bytes:
    """Text with the mistakes that writers of traces make: ``nan`` and ``inf``, backslashes, bytes that are no UTF-8."""
    text = _NO_NUMBER.sub(lambda found: found[0] if found[0][:1] == b'"' else b"null", text)
    text = _ESCAPE.sub(lambda found: found[0] if len(found[0]) > 2 or found[0][1:] not in b"u" else rb"\\" + found[0][1:], text)
    return _CONTROL.sub(b" ", text.decode("utf-8", "replace").encode())


def _loose(text: bytes) -> Event | None:
    try:
        parts = _parts.decode(text)
    except BROKEN:
        return None
    event = IdEvent(ts=Raw(bytes(parts.get("ts", b""))), dur=Raw(bytes(parts.get("dur", b""))))
    for key in ("ph", "cat", "name", "pid", "tid", "id"):
        value = _scalar(parts.get(key))
        if value is not None:
            setattr(event, key, value)
    event.ph = str(event.ph)
    if "args" in parts:
        try:
            given = _parts.decode(parts["args"])
        except BROKEN:
            given = {}
        fields = ((one.name, _scalar(given.get(one.encode_name))) for one in msgspec.structs.fields(Args))
        event.args = Args(**{key: value for key, value in fields if value is not None})
    return event


def _scalar(raw: Raw | None) -> Scalar:
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw)
    except BROKEN:
        return None
    return value if isinstance(value, str | int | float) else None
