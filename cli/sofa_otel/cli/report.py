"""``sofa report``: what a run, or the ranks of a job, say."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sofa_otel.cli.document import as_json, as_page, as_text, document, open_runs
from sofa_otel.core.errors import RequirementError, UsageError
from sofa_otel.core.run import RunReader
from sofa_otel.core.telemetry import spans_of
from sofa_otel.exporters.emit.file import OtlpFile
from sofa_otel.exporters.emit.resource import job_resource

_LATER = ("pprof", "parquet")


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN…")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html", "perfetto", "otlp", *_LATER]),
    default="text",
    show_default=True,
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File instead of stdout.")
@click.option("--serve", is_flag=True, help="Serve the page on loopback, for a browser at the other end of SSH.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port of --serve.")
def command(runs: tuple[Path, ...], form: str, output: Path | None, serve: bool, port: int) -> None:
    """Print what RUN found. Several RUNs are ranks or nodes of one job."""
    readers = open_runs(runs)
    if form in _LATER:
        raise RequirementError(f"--format {form} is not part of this version", "use text, json, html, perfetto or otlp")
    if serve:
        from sofa_otel.cli.serve_page import serve_page

        serve_page(as_page(document(readers)), port)
        return
    if form == "perfetto":
        from sofa_otel.exporters.emit.perfetto import write_perfetto

        if output is None and sys.stdout.isatty():
            raise UsageError("a Perfetto trace is binary", "give a file with -o")
        if len(readers) > 1:
            raise UsageError("--format perfetto takes one RUN", "name one run")
        write_perfetto(readers[0], output or Path("/dev/stdout"))
        return
    if form == "otlp":
        _write_otlp(readers, output or Path("/dev/stdout"))
        return
    report = document(readers)
    if form == "json":
        text = as_json(report)
    elif form == "html":
        text = as_page(report)
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        text = as_text(report, width=min(width, 140), color=output is None and sys.stdout.isatty())
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        output.write_text(text, encoding="utf-8")


def _write_otlp(readers: Sequence[RunReader], path: Path) -> None:
    """Iterations and swarms as OTLP JSON, one request a line (the form that the Collector's file receiver reads)."""
    with OtlpFile(path, job_resource(readers[0].meta.job, readers[0].meta.rank, host=readers[0].meta.host)) as file:
        for reader in readers:
            file.spans(spans_of(reader.all_records()))
