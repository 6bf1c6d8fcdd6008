"""``sofa runs``: list and prune run directories."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from sofa_otel.core.run import list_runs, prune


@click.group("runs")
def command() -> None:
    """List and prune run directories."""


_FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("sofa-runs"), show_default=True, help="Where runs lie."
)


@command.command("list")
@_FOLDER
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_command(folder: Path, form: str) -> None:
    """Runs of a folder, newest first."""
    runs = list_runs(folder)
    if form == "json":
        rows = [
            {"path": str(run.path), "job": run.meta.job, "rank": run.meta.rank, "started_ns": run.meta.started_ns,
             "exit_code": run.meta.exit_code, "state": "running" if run.alive else "ended", "bytes": run.size}
            for run in runs
        ]  # fmt: skip
        click.echo(msgspec.json.encode({"schema": "sofa/runs/v1", "runs": rows}).decode())
        return
    if not runs:
        click.echo(f"no runs in {folder}", err=True)
    for run in runs:
        when = datetime.fromtimestamp(run.meta.started_ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        state = "running" if run.alive else f"exit {run.meta.exit_code}"
        click.echo(f"{when}  {state:<9} {run.size / 1e6:8.1f} MB  {run.path}  {' '.join(run.meta.command)[:60]}")


@command.command("prune")
@_FOLDER
@click.option("--keep", type=click.IntRange(0), required=True, help="How many of the newest runs stay.")
def prune_command(folder: Path, keep: int) -> None:
    """Delete all but the newest runs. Runs that are being written stay; nothing that is not a run is touched."""
    for path in prune(folder, keep):
        click.echo(f"deleted {path}")
