"""Settings: everything a user may set for ``sofa run``, ``attach`` and ``agent``, read once into one typed value.

Later sources win: defaults, a TOML (or YAML) file, ``SOFA_*`` and ``OTEL_*`` variables, flags. A key nobody knows is refused with
the nearest name that exists, because a setting that is silently ignored is worse than an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from sofa_otel.core.errors import UsageError
from sofa_otel.core.settings_file import SettingsFile, read_settings_file


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user set.

    Attributes:
        collect: ``auto``, or names of collectors with commas between them; ``-name`` leaves one out.
        profile: What the site allows.
        listen, port: Where ``/metrics`` is served; port 0 picks a free one.
        otlp: OTLP endpoint that spans and metrics go to, empty for none.
        hooks: Whether the probe may hook torch.
        output: Run directory, empty for the default name.
        sample_ratio: Share of iterations whose spans are sent; anomalous ones always are.
        lateness_s: How long events may be late and still count.
        budget: Share of the target's CPU time that collectors may use.
        gpu_trace: Seconds of GPU trace to take, 0 for none.
        trigger: ``log:REGEX`` or ``anomaly``: capture raw events when it happens; empty for never.
        quiet: No status line and no summary.
        redact: Regular expressions, in addition to the built-in rules, of option and variable names whose values are hidden.
    """

    collect: Annotated[str, Meta(min_length=1)] = "auto"
    profile: Literal["restricted", "ptrace", "perf"] = "perf"
    listen: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    otlp: str = ""
    hooks: bool = True
    output: str = ""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    lateness_s: Annotated[float, Meta(ge=0, le=300)] = 2.0
    budget: Annotated[float, Meta(gt=0, le=1)] = 0.01
    gpu_trace: Annotated[float, Meta(ge=0)] = 0.0
    trigger: str = ""
    quiet: bool = False
    redact: list[str] = []

    def replace(self, **fields: Any) -> Self:
        """The same settings with some fields changed.

        Raises:
            UsageError: A value is not allowed.
        """
        checked = {name: _convert(name, value, name) for name, value in fields.items()}
        return msgspec.structs.replace(self, **checked)


class Resolved(NamedTuple):
    """Settings, where each value came from (field → ``default``, ``file.toml:3``, ``SOFA_PORT``, ``--port``), and notes."""

    settings: Settings
    sources: dict[str, str]
    notes: list[str]


class _Knob(NamedTuple):
    """``key`` is the documented key of a file; ``alias``, the flag's name, is taken as well."""

    field: str
    key: str
    variables: tuple[str, ...]
    alias: str = ""


KNOBS: Final = (
    _Knob("collect", "collect", ("SOFA_COLLECT",)),
    _Knob("profile", "profile", ("SOFA_PROFILE",)),
    _Knob("listen", "metrics.listen", ("SOFA_METRICS_LISTEN",), "listen"),
    _Knob("port", "metrics.port", ("SOFA_PORT",), "port"),
    _Knob("otlp", "export.otlp", ("SOFA_OTLP", "OTEL_EXPORTER_OTLP_ENDPOINT"), "otlp"),
    _Knob("hooks", "probe.hooks", ("SOFA_PROBE_HOOKS",), "hooks"),
    _Knob("output", "output", ("SOFA_OUTPUT",)),
    _Knob("sample_ratio", "sample.ratio", ("SOFA_SAMPLE_RATIO",)),
    _Knob("lateness_s", "lateness", ("SOFA_LATENESS",)),
    _Knob("budget", "budget", ("SOFA_BUDGET",)),
    _Knob("gpu_trace", "gpu_trace", ("SOFA_GPU_TRACE",)),
    _Knob("trigger", "trigger", ("SOFA_TRIGGER",)),
    _Knob("quiet", "quiet", ("SOFA_QUIET",)),
    _Knob("redact", "redact", ("SOFA_REDACT",)),
)
_BY_KEY: Final = {knob.key: knob for knob in KNOBS} | {knob.alias: knob for knob in KNOBS if knob.alias}
_BY_FIELD: Final = {knob.field: knob for knob in KNOBS}
_TYPES: Final[dict[str, Any]] = get_type_hints(Settings, include_extras=True)
_WORDS: Final = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}


def load_settings(
    file: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from every source; see :func:`resolve_settings`."""
    return resolve_settings(file, environ, overrides).settings


def resolve_settings(
    file: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Resolved:
    """Settings from every source, and which source gave each.

    Args:
        file: TOML or YAML; keys as in :data:`KNOBS`.
        environ: The user's environment.
        overrides: Flags by field name; None means "not given".

    Raises:
        UsageError: A key is not known or a value not allowed; the message names the file and line, variable or flag.
        RequirementError: The file is YAML and no YAML reader is installed.
    """
    values: dict[str, Any] = {}
    sources = {knob.field: "default" for knob in KNOBS}
    layers = [
        *([_from_file(read_settings_file(file))] if file is not None else []),
        _from_environment(environ or {}),
        _from_flags(overrides or {}),
    ]
    for layer in layers:
        for field, (value, source) in layer.items():
            values[field] = _convert(field, value, source)
            sources[field] = source
        if "listen" in layer:
            values["listen"], port = _split_listen(values["listen"], layer["listen"][1])
            if port is not None and "port" not in layer:
                values["port"], sources["port"] = port, layer["listen"][1]
    settings = Settings(**values)
    for source, check in (("trigger", _check_trigger), ("redact", _check_redact)):
        check(settings, sources[source])
    return Resolved(settings, sources, _strange_variables(environ or {}))


_Layer = dict[str, tuple[Any, str]]


def _from_file(file: SettingsFile) -> _Layer:
    out: _Layer = {}
    for key, value in file.values.items():
        knob = _BY_KEY.get(key)
        if knob is None:
            raise UsageError(f"{file.where(key)}: there is no setting {key!r}", _nearest(key, [*_BY_KEY]))
        out[knob.field] = (value, file.where(key))
    return out


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    out: _Layer = {}
    for knob in KNOBS:
        for variable in knob.variables:
            if text := environ.get(variable, "").strip():
                out[knob.field] = (text, variable)
                break
    if out.get("otlp", ("", ""))[1].startswith("OTEL_") and environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        del out["otlp"]
    return out


def _from_flags(overrides: Mapping[str, Any]) -> _Layer:
    out: _Layer = {}
    for field, value in overrides.items():
        if field not in _BY_FIELD:
            raise UsageError(f"there is no setting {field!r}", _nearest(field, [*_BY_FIELD]))
        if value is not None:
            out[field] = (str(value) if isinstance(value, Path) else value, "--" + field.removesuffix("_s").replace("_", "-"))
    return out


def _convert(field: str, value: Any, source: str) -> Any:
    if field not in _TYPES:
        raise UsageError(f"there is no setting {field!r}", _nearest(field, [*_BY_FIELD]))
    kind = _TYPES[field]
    if kind is bool and isinstance(value, str):
        value = _WORDS.get(value.lower(), value)
    elif field == "collect" and isinstance(value, list):
        value = ",".join(str(item) for item in value)
    elif field == "redact" and isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        said = f"{value!r}"[:60]
        raise UsageError(f"{source}: {said} is not allowed for {field}: {error}", _allowed(kind)) from error


def _allowed(kind: Any) -> str:
    if kind is bool:
        return "use on or off"
    if get_origin(kind) is Literal:
        return f"use one of {', '.join(get_args(kind))}"
    return "correct the value, or leave it out for the default"


def _split_listen(text: str, source: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(?::(\d+))?", text)
    if match is None:
        with suppress(ValueError):
            return str(IPv6Address(text)), None
        raise UsageError(f"{source}: {text!r} is not an address", "use HOST or HOST:PORT, as 127.0.0.1:9464 or [::1]:9464")
    host = match[1].strip("[]") or "127.0.0.1"
    return host, None if match[2] is None else _convert("port", int(match[2]), source)


def _check_trigger(settings: Settings, source: str) -> None:
    kind, _, pattern = settings.trigger.partition(":")
    if settings.trigger in ("", "anomaly"):
        return
    if kind != "log" or not pattern:
        raise UsageError(f"{source}: {settings.trigger!r} is no trigger", "use log:REGEX or anomaly")
    _compile(pattern, source)


def _check_redact(settings: Settings, source: str) -> None:
    for pattern in settings.redact:
        _compile(pattern, source)


def _compile(pattern: str, source: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{source}: {pattern!r} is not a regular expression: {error}", "correct the pattern") from error


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    if not close:
        # A key in the wrong table: compare the last word too.
        tails = {key.rpartition(".")[2]: key for key in known}
        close = [tails[t] for t in difflib.get_close_matches(name.rpartition(".")[2], list(tails), 1, 0.6)]
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _strange_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like a misspelt setting. Others may own ``SOFA_*`` names too, so this is no error."""
    known = [variable for knob in KNOBS for variable in knob.variables]
    notes = []
    for name in environ:
        if name.startswith("SOFA_") and name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.85)
            if close:
                notes.append(f"{name} is not a setting: did you mean {close[0]}?")
    return notes
