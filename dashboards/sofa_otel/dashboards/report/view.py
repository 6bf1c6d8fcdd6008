"""Labels, colours, numbers and sentences: the one place where a report gets its looks.

Terminal and page draw the same document; whatever both need to say or colour is decided here and nowhere else. Colours come in
two variants (light ground, dark ground) and mark areas only; text is never set in them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sofa_otel.core import names
from sofa_otel.core.names import CorrelationStatus, IterationKind, Phase, Resource, Severity, SwarmKind
from sofa_otel.core.records import Gain
from sofa_otel.core.report import FindingItem, Report, Swarm

DASH: Final = "–"


class Look(NamedTuple):
    """How a word of a vocabulary is drawn: its label and its colour on light and on dark ground."""

    label: str
    light: str
    dark: str


AMBER, BLUE, VIOLET, GREEN = ("#d99a0b", "#e8b33d"), ("#3a78c9", "#6aa1ea"), ("#7a59c2", "#a28be8"), ("#2a8f6f", "#4fbf98")
PINK, CYAN, GREY, RED = ("#bd4f86", "#e07fb0"), ("#1590a8", "#48bfd4"), ("#a3abb5", "#626b76"), ("#c9493a", "#ec7565")
BROWN, ORANGE, LEAF = ("#8d6640", "#c09a72"), ("#d9763a", "#f09a62"), ("#5a9432", "#8cc261")

PHASES: Final[Mapping[Phase, Look]] = {
    Phase.DATA_LOADING: Look("data loading", *AMBER),
    Phase.MODEL_FORWARD: Look("forward", *BLUE),
    Phase.MODEL_BACKWARD: Look("backward", *VIOLET),
    Phase.OPTIMIZER_UPDATE: Look("optimizer", *GREEN),
    Phase.CHECKPOINT_SAVE: Look("checkpoint", *PINK),
    Phase.VALIDATION: Look("validation", *CYAN),
    Phase.UNKNOWN: Look("not attributed", *GREY),
}
RESOURCES: Final[Mapping[Resource, Look]] = {
    Resource.CPU_USER: Look("CPU, user", *BLUE),
    Resource.CPU_SYSTEM: Look("CPU, kernel", *CYAN),
    Resource.GPU_COMPUTE: Look("GPU compute", *LEAF),
    Resource.COMMUNICATION: Look("communication", *RED),
    Resource.COPY: Look("host–device copy", *PINK),
    Resource.LOADER: Look("data loader", *AMBER),
    Resource.DISK: Look("disk", *BROWN),
    Resource.NETWORK: Look("network", *ORANGE),
    Resource.SYNC: Look("locks and sync", *VIOLET),
    Resource.IDLE: Look("idle", *GREY),
}
ITERATION_KINDS: Final[Mapping[IterationKind, Look]] = {
    IterationKind.TRAIN: Look("train", *BLUE),
    IterationKind.WARMUP: Look("warm-up", *GREY),
    IterationKind.VALIDATION: Look("validation", *CYAN),
    IterationKind.CHECKPOINT: Look("checkpoint", *PINK),
    IterationKind.OTHER: Look("other", *BROWN),
}
SWARM_KINDS: Final[Mapping[SwarmKind, Look]] = {
    SwarmKind.COMPUTE: Look("compute", *BLUE),
    SwarmKind.COMMUNICATION: Look("communication", *RED),
    SwarmKind.INPUT: Look("input", *AMBER),
    SwarmKind.CHECKPOINT: Look("checkpoint", *PINK),
    SwarmKind.IDLE: Look("idle", *GREY),
    SwarmKind.OTHER: Look("other", *BROWN),
}
SEVERITIES: Final[Mapping[Severity, Look]] = {
    Severity.CRITICAL: Look("critical", *RED),
    Severity.WARNING: Look("warning", *AMBER),
    Severity.INFO: Look("info", *BLUE),
}
STATUSES: Final[Mapping[CorrelationStatus, str]] = {
    CorrelationStatus.CONFIRMED: "confirmed by an intervention",
    CorrelationStatus.ASSOCIATED: "associated (both tests)",
    CorrelationStatus.CANDIDATE: "candidate (one test)",
}
RANKS: Final = (BLUE, AMBER, LEAF, PINK, CYAN, ORANGE, VIOLET, BROWN)
"""Colours (light, dark ground) that tell up to eight ranks or modules apart."""
HEAT: Final = (("#e6edf7", "#1c4e96"), ("#1d2937", "#8cbcff"))
"""Least and most of a heat map, on light and on dark ground."""
WINDOWS: Final[Mapping[str, str]] = {
    "usr": "user code",
    "sys": "kernel",
    "iow": "waiting for I/O",
    "gpu": "GPU",
    "net": "network",
    "idl": "idle",
}

_METRIC_LABELS: Final[Mapping[str, str]] = {
    names.PROCESS_CPU_TIME.name: "CPU used by the job",
    names.PROCESS_MEMORY_USAGE.name: "Memory of the job",
    names.PROCESS_DISK_IO.name: "Disk I/O of the job",
    names.PROCESS_THREAD_COUNT.name: "Threads of the job",
    names.PROCESS_CONTEXT_SWITCHES.name: "Context switches of the job",
    names.PROCESS_PAGING_FAULTS.name: "Page faults of the job",
    names.PROCESS_RUN_DELAY.name: "Waiting for a CPU",
    names.PROCESS_RUNNABLE.name: "Runnable threads",
    names.SYSTEM_CPU_TIME.name: "CPU of the host",
    names.SYSTEM_MEMORY_USAGE.name: "Memory of the host",
    names.SYSTEM_DISK_IO.name: "Disk throughput",
    names.SYSTEM_DISK_OPERATIONS.name: "Disk operations",
    names.SYSTEM_DISK_IO_TIME.name: "Disk busy",
    names.SYSTEM_NETWORK_IO.name: "Network throughput",
    names.SYSTEM_NETWORK_PACKETS.name: "Network packets",
    names.SYSTEM_NETWORK_DROPPED.name: "Packets dropped",
    names.SYSTEM_NETWORK_ERRORS.name: "Network errors",
    names.GPU_UTILIZATION.name: "GPU busy",
    names.GPU_MEMORY_USAGE.name: "GPU memory",
    names.GPU_MEMORY_UTILIZATION.name: "GPU memory in use",
    names.GPU_IO.name: "GPU PCIe traffic",
    names.HW_POWER.name: "Power",
    names.HW_TEMPERATURE.name: "Temperature",
    names.CGROUP_CPU_TIME.name: "CPU of the container",
    names.CGROUP_CPU_THROTTLED.name: "Held back by the CPU quota",
    names.CGROUP_MEMORY_USAGE.name: "Memory of the container",
    names.PRESSURE_TIME.name: "Pressure stall",
    names.TCP_RETRANSMITS.name: "TCP retransmits",
    names.GPU_THROTTLE.name: "GPU clock throttled",
}
_METRICS: Final = {metric.name: metric for metric in vars(names).values() if isinstance(metric, names.Metric)}
_UNIT_SPACE: Final = re.compile(r"(?<=\d) (?=(?:%|°C|[nµm]?s|min|h|[kMGTP]?(?:B|W|J)(?:/s)?)(?![\w%]))")
_SI: Final = ("", "k", "M", "G", "T", "P", "E")


# -- text ----------------------------------------------------------------------------------------------------------------------
def clean(text: object) -> str:
    """Text from the outside made harmless for a terminal and a page: no control, escape or direction-changing character."""
    return "".join("�" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char for char in str(text))


def slug(value: str) -> str:
    """A member of a vocabulary as part of a CSS name."""
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in str(value))


def glue(text: str) -> str:
    """Text whose figures keep their units: the space between ``41`` and ``%`` no longer breaks a line."""
    return _UNIT_SPACE.sub("\u00a0", text)


def sentence(text: str) -> str:
    """Text with a capital at its beginning and a full stop at its end."""
    text = clean(text).strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def plural(count: int, noun: str) -> str:
    """``1 step``, ``12,040 steps``."""
    last = noun.rsplit(" ", 1)[-1]
    ending = "" if count == 1 else "es" if last.endswith(("s", "x", "tch", "sh")) else "s"
    return f"{count:,} {noun}{ending}"


# -- numbers -------------------------------------------------------------------------------------------------------------------
def number(value: float) -> str:
    """Three significant digits, thousands separated, no exponent below 10⁶."""
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return si(value)
    text = f"{value:,.{min(_decimals(value), 6)}f}".replace("-", "−")
    return text.rstrip("0").rstrip(".") if "." in text else text


def digits(value: float) -> str:
    """Exactly three significant digits (``1.50``, ``15.2``, ``152``), for figures that stand below each other."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else DASH
    return f"{value:,.{_decimals(value)}f}".replace("-", "−")


def _decimals(value: float) -> int:
    """Places after the point that leave three significant digits once rounded."""
    return max(0, 2 - int(f"{value:.2e}".partition("e")[2]))


def si(value: float, unit: str = "") -> str:
    """A figure with a decimal prefix: ``1.5 MB``."""
    if not math.isfinite(value):
        return DASH
    power = 0
    while abs(value) >= 999.5 and power < len(_SI) - 1:
        value /= 1000.0
        power += 1
    return f"{number(value)} {_SI[power]}{unit}".rstrip()


def seconds(value: float | None) -> str:
    """A duration in the unit that reads best, ns to days."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size == 0:
        return "0 s"
    for limit, factor, unit in ((999.5e-9, 1e9, "ns"), (999.5e-6, 1e6, "µs"), (0.9995, 1e3, "ms"), (99.95, 1.0, "s")):
        if size < limit:
            return f"{digits(value * factor)} {unit}"
    whole = round(size)
    sign = "−" if value < 0 else ""
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{sign}{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{sign}{whole // 86400} d {whole % 86400 // 3600:02d} h"


def percent(share: float | None) -> str:
    """A share 0..1 as percent: whole above ten, one decimal below."""
    if share is None or not math.isfinite(share):
        return DASH
    value = share * 100
    if value == 0:
        return "0 %"
    if abs(value) < 0.1:
        return "<0.1 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 else f"{value:.1f} %"


def change(ratio: float | None) -> str:
    """A relative change with its sign: ``+12 %``, ``−3.1 %``; ``steady`` below half a percent."""
    if ratio is None or not math.isfinite(ratio):
        return DASH
    if abs(ratio) < 0.005:
        return "steady"
    if ratio > 9.995:
        return f"{number(ratio + 1)}x"
    return ("+" if ratio > 0 else "−") + percent(abs(ratio))


def quantity(value: float, unit: str) -> str:
    """A value with its UCUM unit as people write it (``By/s`` → MB/s, ``1`` → %, ``{thread}`` → threads)."""
    match unit:
        case "s":
            return seconds(value)
        case "1":
            return percent(value)
        case "cores":
            return f"{number(value)} cores"
        case "By" | "By/s":
            return si(value, "B" + unit[2:])
        case "Cel":
            return f"{number(value)} °C"
        case "W" | "J":
            return si(value, unit)
        case "":
            return number(value)
    noun, _, per = unit.partition("/")
    noun = noun.strip("{}").replace("_", " ")
    figure = si(value) if abs(value) >= 10_000 else number(value)
    if not per:
        return f"{figure} {noun if value == 1 else plural(2, noun)[2:]}"
    return f"{figure} {plural(2, noun)[2:] if len(noun) > 2 else noun}/{per}"


def gain(predicted: Gain) -> str:
    """A predicted gain as people say it: ``1.2x to 1.5x faster``."""
    low, high = f"{predicted.low:.2g}x", f"{predicted.high:.2g}x"
    if low == high:
        low, high = f"{predicted.low:.3g}x", f"{predicted.high:.3g}x"
    return f"{low} faster" if low == high else f"{low} to {high} faster"


# -- metrics -------------------------------------------------------------------------------------------------------------------
def metric_label(metric: str, attributes: Mapping[str, str] | None = None) -> str:
    """A metric in words with its attribute values: ``Disk throughput · sda, read``."""
    label = _METRIC_LABELS.get(metric, metric)
    values = ", ".join(value for _, value in sorted((attributes or {}).items(), reverse=True))
    return clean(f"{label} · {values}" if values else label)


def metric_order(metric: str) -> int:
    """Place of a metric's lane on the page: the job before the host, unknown ones last."""
    return list(_METRIC_LABELS).index(metric) if metric in _METRIC_LABELS else len(_METRIC_LABELS)


def lane_unit(metric: str, unit: str) -> str:
    """Unit of a lane. A counter's rate may carry the counter's own unit: seconds a second are cores, or a share of time."""
    known = _METRICS.get(metric)
    if known is None or known.instrument is not names.Instrument.COUNTER:
        return unit
    if unit in {"s", "s/s", "1"}:
        return "cores" if metric.endswith("cpu.time") else "1"
    return unit if "/" in unit else f"{unit}/s"


def deciding_figure(finding: FindingItem) -> str:
    """The metric a finding rests on, with value and reference, or an empty string."""
    if not finding.metric:
        return ""
    known = _METRICS.get(finding.metric)
    unit = known.unit if known else ""
    if finding.metric.startswith("share_") or finding.metric.endswith(("share", "ratio", "utilization")):
        unit = "1"
    return clean(f"{finding.metric} = {quantity(finding.value, unit)}, compared with {quantity(finding.reference, unit)}")


# -- sentences -----------------------------------------------------------------------------------------------------------------
def verdict(report: Report) -> str:
    """What the run comes to, in one sentence."""
    iterations, bottleneck = report.iterations, report.breakdown.bottleneck
    if report.findings:
        return sentence(report.findings[0].title)
    if not iterations.found:
        reason = clean(iterations.reason).rstrip(".") or "no reason was given"
        return f"No iterations found: {reason}."
    step = f"{plural(iterations.count, level_noun(iterations.level))} of {seconds(median(report))}"
    if bottleneck is None:
        return f"Nothing stands out: {step}."
    return f"Nothing stands out: {step}, {percent(bottleneck.share)} of the time in {RESOURCES[bottleneck.class_].label}."


def trend(swarm: Swarm) -> str:
    """How a swarm's time in an iteration changed over the run; nothing is said of a swarm without time."""
    return change(swarm.trend) if swarm.time_s > 0 else DASH


def median(report: Report) -> float | None:
    """Median duration of a training iteration in seconds."""
    duration = report.iterations.duration_s
    return duration.median if duration else None


def level_noun(level: str) -> str:
    """Noun for an iteration of this loop level."""
    return clean(level).replace("-", " ") or "iteration"


def exit_text(code: int | None) -> str:
    """How the program ended."""
    if code is None:
        return "still running or killed"
    if code < 0 or code > 128:
        return f"ended by signal {-code if code < 0 else code - 128}"
    return f"exit {code}"


def left_machine(endpoints: Sequence[str]) -> str:
    """What left the machine, said plainly."""
    if not endpoints:
        return "Nothing left this machine."
    return "Telemetry was sent to " + ", ".join(clean(endpoint) for endpoint in endpoints) + "."
