"""``sofa report``: what a run, or the ranks of a job, say."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from sofa_otel.cli.document import as_json, as_page, as_text, document, open_runs
from sofa_otel.core.errors import RequirementError, UsageError

_LATER = ("otlp", "pprof", "parquet")


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN…")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "html", "perfetto", *_LATER]), default="text", show_default=True
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File instead of stdout.")
@click.option("--serve", is_flag=True, help="Serve the page on loopback, for a browser at the other end of SSH.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port of --serve; 0 picks one.")
def command(runs: tuple[Path, ...], form: str, output: Path | None, serve: bool, port: int) -> None:
    """Print what RUN found. Several RUNs are ranks or nodes of one job."""
    readers = open_runs(runs)
    if form in _LATER:
        raise RequirementError(f"--format {form} is not part of this version", "use text, json, html or perfetto")
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
