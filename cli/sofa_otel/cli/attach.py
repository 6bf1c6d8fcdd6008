"""``sofa attach``: watch processes that run already."""

from __future__ import annotations

import os
import select as polling
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from sofa_otel.cli.options import observation_options
from sofa_otel.core.errors import RequirementError, UsageError


@click.command("attach")
@click.argument("pid", required=False, type=click.IntRange(1))
@click.option("--container", metavar="ID", help="Processes of this container (id or its beginning).")
@click.option("--cgroup", metavar="PATH", help="Processes of this control group.")
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Stop after S seconds [default: when the processes end].",
)
@observation_options
@click.pass_context
def command(
    ctx: click.Context, /, pid: int | None, container: str | None, cgroup: str | None, duration: float | None, **options: Any
) -> None:
    """Watch a process and its children. The processes are not stopped, and go on when we end."""
    if sum(x is not None for x in (pid, container, cgroup)) != 1:
        raise UsageError("name one of PID, --container and --cgroup", "as: sofa attach 4711")
    root = pid if pid is not None else _oldest_of(container or "", cgroup or "")
    argv = _argv(root)
    environment = _environment(root)
    from sofa_otel.cli.observation import Observation
    from sofa_otel.core.settings import load_settings

    settings = load_settings(file=options.pop("config"), environ=dict(ctx.obj), overrides=options)
    if settings.collect == "auto" and "SOFA_PROBE_SOCKET" not in environment:
        settings = settings.replace(collect="auto,-probe")
    observation = Observation(settings, argv, environment)
    observation.attach_collectors(root)
    observation.begin()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _wait(root, stop, duration)
    observation.end(None)
    observation.publish()
    sys.exit(0)


def _wait(pid: int, stop: threading.Event, duration: float | None) -> None:
    """Until the process ends, the time is over or we are told to stop."""
    deadline = time.monotonic() + duration if duration else None
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        poll = polling.poll()
        poll.register(descriptor, polling.POLLIN)
        while not stop.is_set() and not (deadline and time.monotonic() >= deadline):
            if poll.poll(200):
                return
    finally:
        os.close(descriptor)


def _argv(pid: int) -> list[str]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError as error:
        raise UsageError(f"there is no process {pid} to watch: {error.strerror}", "see `ps -ef` for its number") from error
    return [word.decode(errors="replace") for word in words] or [str(pid)]


def _environment(pid: int) -> dict[str, str]:
    try:
        items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except PermissionError as error:
        raise RequirementError(
            f"process {pid} belongs to another user: its /proc entries cannot be read", "run sofa as that user, or as root"
        ) from error
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in items if item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def _oldest_of(container: str, cgroup: str) -> int:
    """The oldest process whose control group is, or is of, what was named."""
    wanted = container or cgroup.removeprefix("/sys/fs/cgroup").strip("/")
    if not wanted:
        raise UsageError("the name of the container or control group is empty", "give its id or path")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "cgroup").read_text()
            started = int((entry / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            continue
        paths = [line.split(":", 2)[2].strip("/") for line in text.splitlines() if line.count(":") >= 2]
        hit = (
            any(wanted in path for path in paths)
            if container
            else any(path == wanted or path.endswith("/" + wanted) for path in paths)
        )
        if hit:
            found.append((started, int(entry.name)))
    if not found:
        raise UsageError(f"no process is in {wanted!r}", "see /proc/PID/cgroup of the process you mean")
    return min(found)[1]
