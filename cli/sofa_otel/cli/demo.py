"""``sofa demo``: a bundled small run, explained in seconds."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path

import click

from sofa_otel.cli.document import PAGE, as_page, as_text, document, open_runs
from sofa_otel.cli.ranks import Ranks
from sofa_otel.cli.session import Session
from sofa_otel.core.recording import read_recording
from sofa_otel.core.run import RunMeta, RunWriter
from sofa_otel.core.series import ResourceBatch
from sofa_otel.core.totals import Totals
from sofa_otel.exporters.collector import Target

RECORDING = "digits.sofarec"


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="RUN",
    help="Run directory [default: sofa-runs/demo-<time>].",
)
def command(output: Path | None) -> None:
    """Replay a recorded training run (scikit-learn's digits, images augmented in a worker process) and explain it."""
    directory = output or Path("sofa-runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    with as_file(files("sofa_otel.cli") / "recordings" / RECORDING) as path:
        replay(path, directory, ["python", "train_digits.py"], job="train_digits")
    report = document(open_runs([directory]))
    click.echo(as_text(report, width=min(shutil.get_terminal_size((100, 24)).columns, 120), color=sys.stdout.isatty()))
    page = directory / PAGE
    page.write_text(as_page(report), encoding="utf-8")
    click.echo(f"page: {page}")


def replay(recording: Path, directory: Path, command: list[str], job: str) -> None:
    """Put a recording through the operator into a new run directory."""
    writer = RunWriter.create(
        directory, RunMeta(command=command, started_ns=time.time_ns(), job=job, rank=0, host=socket.gethostname())
    )
    target = Target(pid=0, job=job, rank=0, host="", run_dir=str(directory))
    session = Session(writer, [], target, Ranks(0), Totals())
    first, last = 0, 0
    for batch in read_recording(recording, session.tables, session.series):
        times = batch.time_ns if isinstance(batch, ResourceBatch) else batch.start_ns
        if len(times):
            first = min(first or int(times.min()), int(times.min()))
            last = max(last, int(times.max()))
        if isinstance(batch, ResourceBatch):
            session.resources(batch)
        else:
            session.events(batch)
    session.stop()
    writer.update(started_ns=first, ended_ns=last, exit_code=0, state="ended")
    writer.close()
