"""The plain reading of a trace (json.loads, Decimal, one event after the other), and traces of every style to compare it on."""

from __future__ import annotations

import json
import random
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

_NUMBERS = re.compile(r'(?<=[:\s])"(\d+(?:\.\d+)?)"(?=\s*[,}])')
STYLES = ("torch", "torch_lines", "compact", "spaced", "indented", "flush", "mixed")


class Row(NamedTuple):
    """What must come out of an event."""

    name: str
    start_ns: int
    duration_ns: int
    pid: int
    tid: int
    device: int
    link: int
    bytes: int


def reference(text: str) -> list[Row]:
    """Rows of complete and instant events with whole ids, sorted."""
    document = json.loads(text, parse_float=Decimal)
    base = document.get("baseTimeNanoseconds", 0) if isinstance(document, dict) else 0
    out = []
    for event in document["traceEvents"] if isinstance(document, dict) else document:
        if event.get("ph") not in {"X", "i", "I"}:
            continue
        args = event.get("args") or {}
        on_device = event.get("cat") in {"kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation"}
        device = args.get("device", event["pid"]) if on_device else -1
        size = args.get("bytes", 0) if on_device else 0
        if "dtype" in args and "ncclKernel" in event["name"]:
            size = {"Float": 4, "Long": 8}[args["dtype"]] * args["In msg nelems"]
        if event["name"] == "[memory]":
            device, size = args["Device Id"], args["Bytes"]
        out.append(
            Row(
                event["name"], nanoseconds(event["ts"]) + base, nanoseconds(event.get("dur", 0)), event["pid"],
                (args.get("stream", event["tid"]) if on_device else event["tid"]) & 0xFFFFFFFF, device,
                args.get("correlation", 0) or args.get("External id", 0), size,
            )
        )  # fmt: skip
    return sorted(out)


def nanoseconds(value: Any) -> int:
    return int((Decimal(value) * 1000).quantize(Decimal(1), ROUND_HALF_UP))


class Writer:
    """Makes a random trace and writes it in a style."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.style = STYLES[seed % len(STYLES)]
        self.now = 4_566_161_618_111_334
        self.whole = self.rng.random() < 0.2

    def text(self, count: int) -> str:
        head, tail = self._metadata()
        events = [self._written(self._event(number)) for number in range(count)]
        gap = {
            "torch": ",\n",
            "torch_lines": ",\n",
            "compact": ",",
            "spaced": ", ",
            "indented": ",\n  ",
            "flush": ",\n",
            "mixed": " ,\n\n",
        }
        body = gap[self.style].join(events)
        if self.rng.random() < 0.15:
            return f"[{body}]"
        return (
            "\n{"
            + "".join(f"{member},\n " for member in head)
            + f'"traceEvents": [\n{body}\n ]'
            + "".join(f", {m}" for m in tail)
            + "}\n"
        )

    def _metadata(self) -> tuple[list[str], list[str]]:
        members = [
            '"schemaVersion": 1',
            '"baseTimeNanoseconds": 1790857026000000000',
            '"distributedInfo": {"backend": "nccl", "rank": 3, "world_size": 8, "pg_config": [{"ranks": [0, 1]}]}',
            '"deviceProperties": [{"id": 0, "name": "A \\"},\\n {\\"ph\\": \\"X\\" B"}, {"id": 1}]',
            '"INFO": ["},{\\"ph\\":\\"X\\"", "a]b[c{", "\\\\"]',
            '"displayTimeUnit": "ms"',
        ]
        self.rng.shuffle(members)
        at = self.rng.randrange(len(members) + 1)
        return members[:at], members[at:]

    def _event(self, number: int) -> dict[str, Any]:
        rng = self.rng
        self.now += rng.choice([0, 1, 5, 999, 1000, 123_456])
        pid, tid = rng.choice([4711, 4712]), rng.choice([1, 4711, 65_000])
        event: dict[str, Any] = {
            "ph": "X",
            "cat": "cpu_op",
            "name": self._name(),
            "pid": pid,
            "tid": tid,
            "ts": self._us(self.now),
        }
        kind = rng.random()
        if kind < 0.3:
            return event | {"ph": rng.choice("sft"), "id": number, "cat": "ac2g", "bp": "e"}
        if kind < 0.35:
            return event | {"ph": "M", "name": "process_name", "args": {"name": "python"}}
        if kind < 0.4:
            return {**event, "ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]",
                    "args": {"Device Id": rng.choice([-1, 0, 7]), "Bytes": rng.choice([-4096, 512])}}  # fmt: skip
        event["dur"] = self._us(rng.choice([0, 1, 999, 1000, 45_000, 98_765_432_101]))
        if kind < 0.6:
            device = {"device": rng.randrange(8), "stream": rng.choice([7, 20]), "correlation": number + 1, "grid": [24, 1, 1]}
            if rng.random() < 0.5:
                device["bytes"] = rng.choice([0, 4, 1 << 40])
            return event | {"cat": rng.choice(["kernel", "gpu_memcpy", "gpu_memset"]), "pid": device["device"], "args": device}
        if kind < 0.7:
            return event | {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "args": {"cbid": 211, "correlation": number}}
        if kind < 0.8:
            return event | {"cat": rng.choice(["overhead", "user_annotation", "tool", "x,y"])}
        shapes: Any = rng.choice([[[1, 2], []], [{"ph": "X", "name": "inner"}, {"ph": "X", "name": "inner"}], [["]}"]]])
        return event | {"args": {"External id": number, "Input Dims": shapes, "Call stack": self._name()}}

    def _name(self) -> str:
        plain = [
            "aten::conv2d",
            "void f<int, (anonymous namespace)::g>(float const*)",
            "Memcpy HtoD (Pinned -> Device)",
            "größe µ 日本 😀",
        ]
        nasty = ['},\n  {\n    "ph": "X"', '},{"ph":"X"', "}, {", "a\\", '\\"', "[{", "]", ": inf,", '"', "\u0001\ttab", "nan"]
        return self.rng.choice(plain if self.rng.random() < 0.7 else nasty)

    def _us(self, ns: int) -> Any:
        if self.whole:
            return ns // 1000
        return _Number(
            self.rng.choice([f"{ns // 1000}.{ns % 1000:03d}", str(Decimal(ns) / 1000), f"{ns // 1000}.{ns % 1000:03d}0"])
        )

    def _written(self, event: dict[str, Any]) -> str:
        keys = list(event)
        if self.style == "mixed" or self.rng.random() < 0.05:
            self.rng.shuffle(keys)
        event = {key: event[key] for key in keys}
        match self.style:
            case "torch":
                fields = [f'"{key}": {self._value(value)}' for key, value in event.items() if key != "args"]
                args = event.get("args")
                inside = ",      ".join(f'"{key}": {self._value(value)}' for key, value in args.items()) if args else ""
                lines = [", ".join(fields[:5]), ", ".join(fields[5:]), f'"args": {{\n      {inside}\n    }}' if args else ""]
                return "  {\n    " + ",\n    ".join(line for line in lines if line) + "\n  }"
            case "torch_lines":
                return "  {\n" + ",\n".join(f'    "{key}": {self._value(value)}' for key, value in event.items()) + "\n  }"
            case "compact":
                return self._value(event, separators=(",", ":"))
            case "indented":
                return self._value(event, indent=1)
            case "flush":
                return self._value(event, indent=0)
            case "mixed":
                return self._value(event, indent=self.rng.choice([None, 0, 1, 4]))
            case _:
                return self._value(event)

    def _value(self, value: Any, **options: Any) -> str:
        if isinstance(value, _Number):
            return str(value)
        text = json.dumps(value, ensure_ascii=self.rng.random() < 0.5, **options)
        # Some writers put numbers into strings.
        return text if self.rng.random() < 0.1 else _NUMBERS.sub(r"\1", text)


class _Number(str):
    """Digits as they shall stand in the file."""

    __slots__ = ()
