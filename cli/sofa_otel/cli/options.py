"""Options that ``run`` and ``attach`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _refuse_later(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value:
            from sofa_otel.core.errors import RequirementError

            raise RequirementError(f"{name} is not part of this version", "leave the option out")
        return value

    return check


_OPTIONS = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="RUN",
        help="Run directory [default: sofa-runs/<time>-<job>-r<rank>].",
    ),
    click.option("--collect", default=None, metavar="auto|LIST", help="Collectors, with commas between them [default: auto]."),
    click.option(
        "--profile",
        type=click.Choice(["restricted", "ptrace", "perf"]),
        default=None,
        help="What the site allows; auto collects no more than that [default: perf, as far as the kernel allows].",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=None,
        help="Port of /metrics on loopback; 0 picks one; if taken, the next free one [default: 9464].",
    ),
    click.option(
        "--otlp",
        metavar="URL",
        default=None,
        help="Send spans and metrics there as well (all OTEL_EXPORTER_OTLP_* settings hold).",
    ),
    click.option(
        "--hooks", type=click.Choice(["on", "off"]), default=None, help="Whether the probe may hook torch [default: on]."
    ),
    click.option(
        "--gpu-trace",
        type=float,
        default=None,
        metavar="S",
        callback=_refuse_later("--gpu-trace"),
        help="Later: a Kineto trace of S seconds from inside the process.",
    ),
    click.option(
        "--trigger",
        metavar="log:REGEX|anomaly",
        default=None,
        callback=_refuse_later("--trigger"),
        help="Later: capture raw events when this happens.",
    ),
    click.option(
        "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None, help="Settings file (TOML)."
    ),
    click.option("--quiet", is_flag=True, default=None, help="No status line and no summary."),
)


def observation_options(function: F) -> F:
    """Add the shared options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
