"""``sofa run``: run a command and watch it."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import click

from sofa_otel.cli.launch import Launched, SignalRelay
from sofa_otel.cli.options import observation_options
from sofa_otel.core.errors import UsageError

STATUS_S = 10.0


@click.command("run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@observation_options
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep every event in FILE, for replay and bug reports (large).",
)
@click.argument("target", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD [ARG]…")
@click.pass_context
def command(ctx: click.Context, /, target: tuple[str, ...], record: Path | None, **options: Any) -> None:
    """Run CMD and watch it, without changing it.

    CMD keeps its terminal, its signals and its exit code, which becomes ours. Its output is not touched: everything we say goes
    to stderr.
    """
    environment: dict[str, str] = dict(ctx.obj)
    if shutil.which(target[0], path=environment.get("PATH")) is None:
        raise UsageError(f"there is no program {target[0]!r}", "name a program after --, as: sofa run -- python train.py")
    from sofa_otel.cli.observation import Observation
    from sofa_otel.core.settings import load_settings

    settings = load_settings(file=options.pop("config"), environ=environment, overrides=options)
    observation = Observation(settings, target, environment)
    launched = Launched(target, observation.target_environment(environment))
    with SignalRelay(launched.pid) as relay:
        observation.attach_collectors(launched.pid)
        if record is not None and observation.session is not None:
            observation.session.record(record)
        launched.open_gate()
        observation.begin()
        done = threading.Event()
        if not settings.quiet:
            threading.Thread(target=_status, args=(observation, done), daemon=True).start()
        code = launched.wait()
        done.set()
        relay.active = False
        observation.end(code)
        try:
            observation.publish()
        except Exception as error:  # noqa: BLE001 - the target's exit code is the user's, whatever happens to our page
            click.echo(f"sofa: the report could not be made: {error}\n  → sofa report {observation.writer.directory}", err=True)
    sys.exit(code)


def _status(observation: Any, done: threading.Event) -> None:
    """One line every ten seconds: trainers print progress bars, and the terminal is theirs."""
    while not done.wait(STATUS_S):
        click.echo(observation.status.text(), err=True)
