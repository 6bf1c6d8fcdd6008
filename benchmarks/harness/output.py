"""Prints figures as a table, and writes them as JSON where asked."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain text table, columns aligned: text to the left, figures to the right."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    left = [not any(row[i][:1].isdigit() or row[i][:1] in "+-." for row in cells[1:]) for i in range(len(head))]
    lines = [
        "  ".join(c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(row, widths, left, strict=True)) for row in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def write_json(path: Path | None, kind: str, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """Write ``rows`` with what is needed to judge them: machine, time, load."""
    if path is None:
        return
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(), "load": os.getloadavg()}
    document = {"benchmark": kind, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**document, "rows": list(rows)}, indent=1) + "\n")


def percent(value: float, digits: int = 1) -> str:
    """Signed per cent, ``-`` for nan or infinity."""
    return f"{100 * value:+.{digits}f}%" if abs(value) < 1e6 else "-"
