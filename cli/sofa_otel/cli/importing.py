"""``sofa import``: other programs' recordings as a RUN."""

from __future__ import annotations

import gc
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.errors import InputError, UsageError
from sofa_otel.core.report import CollectorSummary
from sofa_otel.core.run import RunMeta, RunWriter
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.read.importer import LATER, Importer, available, detect, load
from sofa_otel.exporters.read.order import TimeOrder
from sofa_otel.exporters.read.source import ByteSource
from sofa_otel.processors.rank_operator import Output
from sofa_otel.processors.run.local import LocalRunner

NO_LATENESS: int = 0
_ENDINGS = re.compile(r"(\.(json|txt|csv|pb|data|log|gz|xz|zst|pt|trace|strace))+$")


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--from", "kind", default="auto", metavar="FORMAT", show_default=True, help="kineto, strace, perf, pyspy, …")
@click.option("--trust-marks", is_flag=True, help="Take the program's own step marks for the iterations.")
@click.option("--job", default="", help="Job name [default: from the first file's name].")
@click.option("-o", "--output", "output", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Run directory.")
def command(files: tuple[str, ...], kind: str, trust_marks: bool, job: str, output: Path) -> None:
    """Read recordings of other programs (- is stdin; gzip, xz and zstd are read as they are) into RUN.

    Several FILEs are parts, ranks or sources of one job. A folder stands for the files in it.
    """
    if kind != "auto":
        load(kind)  # a name that does not exist is said before anything is written
    paths = list(_expanded(files))
    ours = not output.exists()
    name = job or (_ENDINGS.sub("", paths[0].name) if str(paths[0]) != "-" else "stdin")
    writer = RunWriter.create(
        output,
        RunMeta(command=["sofa", "import", *files], started_ns=time.time_ns(), job=name, rank=0, host=socket.gethostname()),
    )
    importing = Import(writer, name, trust_marks=trust_marks)
    try:
        read = importing.files(paths, kind)
        importing.process()
    except BaseException:
        importing.close()
        writer.close()
        _discard(output, itself=ours)  # half an import would pass for a run, and stand in the way of the next try
        raise
    writer.close()
    click.echo(f"{read}: sofa report {output}", err=True)


class Import:
    """The importers' sink, then the host of the processors.

    Args:
        writer: Run to fill.
        job: Job name.
        trust_marks: Take step marks for the iterations.
    """

    def __init__(self, writer: RunWriter, job: str, *, trust_marks: bool = False) -> None:
        self.tables, self.series = Tables(), SeriesTable()
        self.job, self.rank, self.host = job, 0, ""
        self._writer = writer
        self._runner = LocalRunner(self.tables, NO_LATENESS, trust_marks=trust_marks)
        self._folder = tempfile.TemporaryDirectory(prefix=".import-", dir=writer.directory)
        self._order = TimeOrder(Path(self._folder.name), self.tables)
        self._summaries: list[CollectorSummary] = []
        self._events = self._points = 0
        self._first = self._last = 0

    def events(self, batch: EventBatch) -> None:
        """Take a batch of events in any order."""
        if len(batch):
            self._events += len(batch)
            self._note(int(batch.start_ns.min()), int(batch.end_ns.max()))
            self._order.add(batch)

    def resources(self, batch: ResourceBatch) -> None:
        """Take resource points."""
        if len(batch):
            self._points += len(batch)
            self._note(int(batch.time_ns.min()), int(batch.time_ns.max()))
            self._writer.write_resources(batch)

    def warn(self, message: str) -> None:
        """Keep a warning with the run, and tell the user."""
        self._writer.warn(message)
        click.echo(f"sofa: {message}", err=True)

    def files(self, paths: Sequence[Path], kind: str) -> str:
        """Read every file; returns what was read, in words.

        Raises:
            InputError: Nothing could be read.
        """
        failures: list[InputError] = []
        for path in paths:
            try:
                self._file(path, kind)
            except InputError as error:
                failures.append(error)
        if failures and not self._summaries:
            raise failures[0]
        for failure in failures:
            self.warn(" ".join(str(failure).split()))
        return f"{self._events:,} events, {self._points:,} points from {len(self._summaries)} file(s)"

    def _file(self, path: Path, kind: str) -> None:
        before, began = self._events + self._points, time.process_time()
        with ByteSource(path) as source:
            importer: Importer = detect(source) if kind == "auto" else load(kind)
            paused = gc.isenabled()
            gc.disable()  # nothing here makes cycles, and millions of short-lived rows would set it off all the time
            try:
                importer.read(source, self)
            finally:
                if paused:
                    gc.enable()
            if source.damage:
                self.warn(f"{source.name}, byte {source.position}: {source.damage}; what stands before it was read")
        rows = self._events + self._points - before
        self._summaries.append(
            CollectorSummary(name=importer.name, events=rows, dropped=0, cpu_s=time.process_time() - began)
        )  # fmt: skip

    def process(self) -> None:
        """Find iterations, swarms and bottlenecks in what was read."""
        for batch in self._order.batches():
            self._take(self._runner.on_events(batch))
        self.close()
        self._take(self._runner.finish(0))
        ranks = self._runner.ranks
        self._writer.update(
            started_ns=self._first, ended_ns=self._last, exit_code=0, state="ended", ranks=ranks or [0],
            world_size=max(len(ranks), 1), collectors=self._summaries,
        )  # fmt: skip
        self._writer.commit()

    def close(self) -> None:
        """Remove what was spilled; idempotent."""
        self._order.close()
        self._folder.cleanup()

    def _take(self, out: Output) -> None:
        if out.records:
            self._writer.write(out.records)
        for kept in out.kept:
            self._writer.write_raw(kept.batch, kept.iteration)

    def _note(self, first: int, last: int) -> None:
        self._first = min(self._first, first) if self._last else first
        self._last = max(self._last, last)


def _discard(directory: Path, *, itself: bool) -> None:
    """Empty a run directory; remove it too where it was not there before. What cannot be removed hides no error."""
    for inside in list(directory.iterdir()):
        if inside.is_dir():
            shutil.rmtree(inside, ignore_errors=True)
        else:
            inside.unlink(missing_ok=True)
    if itself:
        shutil.rmtree(directory, ignore_errors=True)


def _expanded(files: Sequence[str]) -> Iterator[Path]:
    """Files as named, folders as the files in them; a file that is named twice is read once.

    Raises:
        UsageError: A name does not exist, or a folder is empty.
    """
    for name in dict.fromkeys(files):
        path = Path(name)
        if name == "-" or path.is_file() or path.is_fifo():
            yield path
        elif path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
            if not inside:
                raise UsageError(f"{name} holds no files", "name a recording")
            yield from inside
        else:
            raise UsageError(f"{name} does not exist", f"name a recording; known formats: {', '.join([*available(), *LATER])}")
