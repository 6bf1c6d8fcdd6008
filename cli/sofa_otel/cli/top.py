"""``sofa top``: the live view of a run."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sofa_otel.core.errors import MissingExtraError, UsageError
from sofa_otel.core.names import IterationKind, Resource
from sofa_otel.core.records import Detection, Iteration, PhaseBreakdown, SwarmInfo, SwarmWindow
from sofa_otel.core.run import RunReader, list_runs, open_run

if TYPE_CHECKING:
    from rich.console import Group

RECENT = 200


@click.command("top")
@click.argument("run", required=False, metavar="[RUN|URL]")
@click.option("--interval", type=click.FloatRange(0.2), default=1.0, show_default=True, help="Seconds between pictures.")
@click.option("--once", is_flag=True, help="Draw once and end.")
def command(run: str | None, interval: float, once: bool) -> None:
    """Show iterations, bottleneck and swarms of a run as they come. Without RUN: the newest in sofa-runs."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError as error:
        raise MissingExtraError("run", "sofa top") from error
    if run is not None and run.startswith(("http://", "https://")):
        from sofa_otel.cli.top_url import UrlView

        view: Any = UrlView(run)
    else:
        view = RunView(_reader(run))
    console = Console()
    if once or not sys.stdout.isatty():
        console.print(view.picture())
        return
    try:
        with Live(view.picture(), console=console, screen=True, auto_refresh=False) as live:
            while view.alive():
                time.sleep(interval)
                live.update(view.picture(), refresh=True)
    except KeyboardInterrupt:
        pass
    console.print(view.picture())


def _reader(run: str | None) -> RunReader:
    if run is not None:
        return open_run(Path(run))
    runs = list_runs(Path("sofa-runs"))
    if not runs:
        raise UsageError("there is no run in ./sofa-runs", "name one: sofa top RUN")
    return open_run(next((entry.path for entry in runs if entry.alive), runs[0].path))


class RunView:
    """Picture of a run directory, growing or finished."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader

    def alive(self) -> bool:
        """Whether the run is still written."""
        self._reader.refresh()
        return self._reader.alive

    def picture(self) -> Group:
        """The whole screen."""
        from rich.console import Group
        from rich.text import Text

        meta = self._reader.refresh()
        state = "running" if self._reader.alive else f"ended, exit {meta.exit_code}"
        head = Text.assemble((meta.job, "bold"), f"  {state}  {' '.join(meta.command)[:80]}", overflow="ellipsis", no_wrap=True)
        return Group(head, Text(""), self._ranks(), Text(""), self._time(), Text(""), self._swarms())

    def _ranks(self) -> Any:
        from rich.table import Table

        table = Table(title="iterations", title_justify="left", expand=True)
        for name in ("rank", "count", "median", "last", "kind", "source", "confidence"):
            table.add_column(name, justify="right" if name in ("rank", "count", "median", "last", "confidence") else "left")
        detections = {detection.rank: detection for detection in self._reader.records(Detection)}
        for rank in sorted(detections):
            recent = self._reader.records(Iteration, rank=rank, last=RECENT)
            seconds = sorted((i.end_ns - i.start_ns) / 1e9 for i in recent if i.kind == IterationKind.TRAIN)
            found = detections[rank]
            if not recent:
                table.add_row(str(rank), "0", "", "", "looking", found.source, found.reason)
                continue
            last = recent[-1]
            median = f"{1000 * seconds[len(seconds) // 2]:.1f} ms" if seconds else ""
            took = f"{(last.end_ns - last.start_ns) / 1e6:.1f} ms"
            table.add_row(str(rank), str(last.index + 1), median, took, last.kind, found.source, f"{found.confidence:.2f}")
        return table

    def _time(self) -> Any:
        from rich.table import Table

        exposed: dict[Resource, int] = defaultdict(int)
        for part in self._reader.records(PhaseBreakdown, last=RECENT):
            for resource, ns in part.exposed_ns.items():
                exposed[resource] += ns
        total = sum(exposed.values())
        table = Table(title="where the time goes (last iterations)", title_justify="left", expand=True, show_header=False)
        table.add_column(width=16)
        table.add_column(width=6, justify="right")
        table.add_column()
        for resource, ns in sorted(exposed.items(), key=lambda pair: -pair[1]):
            if total and ns / total >= 0.005:
                table.add_row(str(resource), f"{100 * ns / total:.0f} %", "█" * round(40 * ns / total))
        return table

    def _swarms(self) -> Any:
        from rich.table import Table

        infos = {info.swarm: info for info in self._reader.records(SwarmInfo)}
        spent: dict[str, int] = defaultdict(int)
        for window in self._reader.records(SwarmWindow, last=20 * RECENT):
            if not window.concurrent:
                spent[window.swarm] += window.time_ns
        total = sum(spent.values())
        table = Table(title="swarms (last iterations)", title_justify="left", expand=True)
        table.add_column("share", justify="right")
        table.add_column("phase")
        table.add_column("swarm", overflow="ellipsis", no_wrap=True)
        for swarm, ns in sorted(spent.items(), key=lambda pair: -pair[1])[:12]:
            info = infos.get(swarm)
            table.add_row(f"{100 * ns / total:.1f} %", info.phase if info else "", info.caption if info else swarm)
        return table
