"""Prometheus names of OpenTelemetry metrics, by the rules of the Collector's translator.

The scrape must carry the names that the route OTLP → Collector → Prometheus gives, so that one dashboard serves both. Rules:
OpenTelemetry specification, compatibility/prometheus_and_openmetrics, as implemented in github.com/prometheus/otlptranslator
with its default ``UnderscoreEscapingWithSuffixes``.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from typing import Final

import msgspec

from sofa_otel.core.names import Instrument, Metric
from sofa_otel.core.telemetry import Value

_UNITS: Final = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
    "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes",
    "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams",
    "Cel": "celsius", "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
_PER: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_NAME: Final = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")


@lru_cache(maxsize=4096)
def metric_name(metric: Metric) -> str:
    """Name on a Prometheus server, with unit suffix and, for counters, ``_total``; of a histogram, without ``_bucket``."""
    tokens = [token for token in _NOT_NAME.split(metric.name) if token]
    main, per = _unit_suffixes(metric.unit)
    for suffix in (main, per):
        if suffix and suffix not in tokens:
            tokens.append(suffix)
    if metric.instrument is Instrument.COUNTER:
        tokens = [token for token in tokens if token != "total"] + ["total"]  # noqa: S105
    if metric.instrument is Instrument.GAUGE and metric.unit == "1":
        tokens = [token for token in tokens if token != "ratio"] + ["ratio"]  # noqa: S105
    name = "_".join(tokens)
    return f"_{name}" if name[:1].isdigit() else name


@lru_cache(maxsize=4096)
def label_name(attribute: str) -> str:
    """Label of an attribute key: invalid characters become ``_``; a first digit is prefixed ``key_``, a first ``_`` ``key``."""
    label = _NOT_LABEL.sub("_", attribute)
    if label[:1].isdigit():
        return f"key_{label}"
    if label.startswith("_") and not label.startswith("__"):
        return f"key{label}"
    return label


def label_value(value: Value) -> str:
    """An attribute's value as the Collector writes it (``pcommon.Value.AsString``)."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return ""
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
        case int():
            return str(value)
        case bytes():
            return b64encode(value).decode()
        case _:
            return msgspec.json.encode(value).decode()


def _unit_suffixes(unit: str) -> tuple[str, str]:
    """Main and per suffix; annotations in braces have none."""
    main, _, per = (part.strip() for part in unit.partition("/"))
    main_suffix = "" if "{" in main or "}" in main else _clean(_UNITS.get(main, main))
    per_suffix = "" if not per or "{" in per or "}" in per else _clean("per_" + _PER.get(per, per)).removesuffix("_")
    return main_suffix, "" if per_suffix == "per" else per_suffix


def _clean(unit: str) -> str:
    return re.sub("__+", "_", _NOT_LABEL.sub("_", unit)).removeprefix("_")
