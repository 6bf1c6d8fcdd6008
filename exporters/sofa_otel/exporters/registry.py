"""Which collectors there are, and which of them to start.

Collectors are found by the entry point group ``sofa.collectors`` and imported by name only when asked for: a plug-in of
somebody else that is broken is reported and costs nobody a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Literal, NamedTuple, cast

from sofa_otel.core.errors import RequirementError, UsageError
from sofa_otel.exporters.collector import Capability, Collector

GROUP: Final = "sofa.collectors"

Profile = Literal["restricted", "ptrace", "perf"]

_ALWAYS: Final = ("probe", "proc", "host", "psi", "cgroup", "disk", "network", "nvml")
"""What ``auto`` starts under every profile, in this order: none of it needs a privilege."""

AUTO: Final[Mapping[str, tuple[str, ...]]] = {
    "restricted": _ALWAYS,
    "ptrace": (*_ALWAYS, "pyspy"),
    "perf": (*_ALWAYS, "perf_syscalls", "pyspy"),
}
"""What ``auto`` would like to start. A profile is what the *site* allows; each collector still asks what the kernel allows."""

_QUIET: Final = frozenset({"nvml", "psi"})
"""Collectors whose absence is no news under ``auto``: most machines have no NVIDIA GPU, many kernels no PSI."""


class Selection(NamedTuple):
    """Collectors to start, and one line for each that was wanted and cannot run."""

    collectors: list[Collector]
    warnings: list[str]


def available() -> dict[str, EntryPoint]:
    """Entry points by collector name; where two distributions claim a name, the first found is taken."""
    out: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        out.setdefault(entry.name, entry)
    return out


def load(name: str, entries: Mapping[str, EntryPoint] | None = None) -> Collector:
    """Make the collector ``name``.

    Raises:
        UsageError: There is no collector of that name.
        RequirementError: Its plug-in cannot be imported or made.
    """
    known = available() if entries is None else entries
    entry = known.get(name)
    if entry is None:
        raise UsageError(f"no collector is called {name!r}", f"known collectors: {', '.join(sorted(known))}")
    try:
        factory = cast("Callable[[], Collector]", entry.load())
        return factory()
    except Exception as error:  # a plug-in may raise anything
        raise RequirementError(
            f"the collector {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}",
            "reinstall or remove the distribution that provides it",
        ) from error


def capability(collector: Collector) -> Capability:
    """``collector.probe()``, with a plug-in's exception turned into "not usable"."""
    try:
        return collector.probe()
    except Exception as error:  # noqa: BLE001 - probe must not raise, a plug-in may all the same
        return Capability(
            usable=False,
            provides="",
            missing=f"probe failed: {type(error).__name__}: {error}",
            remedy="report this to its author",
        )


def select(collect: str = "auto", profile: Profile = "perf", entries: Mapping[str, EntryPoint] | None = None) -> Selection:
    """Collectors to start.

    Args:
        collect: ``auto``, or names with commas between them; ``auto`` may be one of the names, ``-name`` leaves one out
            (``auto,-pyspy``).
        profile: What the site allows; only ``auto`` looks at it.
        entries: Entry points, for tests.

    Raises:
        UsageError: A name is not known.
        RequirementError: A collector that was named cannot run here.
    """
    known = available() if entries is None else entries
    words = [word.strip() for word in collect.split(",") if word.strip()]
    if not words:
        raise UsageError("--collect is empty", "use auto, or names such as probe,proc")
    without = {word[1:] for word in words if word.startswith("-")}
    explicit = [word for word in words if word != "auto" and not word.startswith("-")]
    automatic = AUTO[profile] if "auto" in words else ()
    for name in sorted(without - set(known)):
        raise UsageError(f"no collector is called {name!r}", f"known collectors: {', '.join(sorted(known))}")
    out = Selection([], [])
    for name in _ordered(explicit, [name for name in automatic if name in known and name not in without]):
        try:
            collector = load(name, known)
        except RequirementError as error:
            if name in explicit:
                raise
            out.warnings.append(str(error))
            continue
        found = capability(collector)
        if found.usable:
            out.collectors.append(collector)
        elif name in explicit:
            raise RequirementError(f"the collector {name!r} cannot run here: {found.missing}", found.remedy)
        elif name not in _QUIET:
            out.warnings.append(f"{name}: {found.missing}\n  → {found.remedy}")
    _introduce(out.collectors)
    return out


def _introduce(collectors: Iterable[Collector]) -> None:
    """Let py-spy know which processes the probe is in: no process is sampled twice."""
    by_name = {collector.name: collector for collector in collectors}
    inside, outside = by_name.get("probe"), by_name.get("pyspy")
    if inside is not None and outside is not None and hasattr(inside, "processes") and hasattr(outside, "has_probe"):
        outside.has_probe = lambda pid: any(process.pid == pid for process in inside.processes())


def doctor(entries: Mapping[str, EntryPoint] | None = None) -> list[tuple[str, Capability]]:
    """What each known collector could do here, the automatic ones first."""
    known = available() if entries is None else entries
    out = []
    for name in _ordered([], [name for name in AUTO["perf"] if name in known] + sorted(known)):
        try:
            out.append((name, capability(load(name, known))))
        except RequirementError as error:
            out.append((name, Capability(usable=False, provides="", missing=error.message, remedy=error.remedy)))
    return out


def _ordered(first: Iterable[str], then: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *then]))
