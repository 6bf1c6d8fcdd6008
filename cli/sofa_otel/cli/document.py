"""The report of runs, from directories to every form in which a person or a program takes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sofa_otel.apoml_controller.explain.rules import explain
from sofa_otel.core.errors import UsageError
from sofa_otel.core.report import Report
from sofa_otel.core.run import RunReader, open_run
from sofa_otel.processors.summary.assemble import build_report

PAGE: str = "report.html"


def open_runs(paths: Sequence[Path]) -> list[RunReader]:
    """Readers of ``paths``, lowest rank first.

    Raises:
        InputError: One of them is not a run.
        UsageError: A rank is there twice.
    """
    readers = sorted((open_run(path) for path in paths), key=lambda reader: reader.meta.rank)
    seen: dict[int, Path] = {}
    for reader in readers:
        for rank in reader.meta.ranks or [reader.meta.rank]:
            if rank in seen and len(readers) > 1:
                raise UsageError(
                    f"rank {rank} is in {seen[rank]} and in {reader.directory}", "name one run for every rank of one job"
                )
            seen[rank] = reader.directory
    return readers


def document(readers: Sequence[RunReader]) -> Report:
    """The report, findings included."""
    report = build_report(readers)
    return msgspec.structs.replace(report, findings=explain(report))


def as_json(report: Report) -> str:
    """``sofa/report/v1`` as one JSON document."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def as_page(report: Report) -> str:
    """The self-contained HTML page."""
    from sofa_otel.dashboards.report.page import render_page

    return render_page(report)


def as_text(report: Report, *, width: int, color: bool) -> str:
    """The summary for a terminal."""
    from sofa_otel.dashboards.report.text import render_text

    return render_text(report, width=width, color=color)
