"""Observation: everything around a session that ``run`` and ``attach`` have in common.

Opens the run directory, chooses collectors, serves ``/metrics``, sends OTLP where asked, and afterwards writes the page. The
order matters where a target is launched: nothing here starts a thread before :meth:`Observation.begin`.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import click

from sofa_otel.cli.otlp import Otlp
from sofa_otel.cli.ranks import Ranks
from sofa_otel.cli.session import Listener, Session, StatusLine, one_line
from sofa_otel.core.identity import Identity, detect_identity
from sofa_otel.core.redact import Redactor
from sofa_otel.core.run import RunMeta, RunWriter, default_run_name
from sofa_otel.core.settings import Settings
from sofa_otel.core.totals import Totals
from sofa_otel.exporters.collect.probe import ProbeCollector
from sofa_otel.exporters.collector import Collector, Target
from sofa_otel.exporters.emit.prometheus import PrometheusEndpoint
from sofa_otel.exporters.emit.resource import job_resource
from sofa_otel.exporters.governor import Governor
from sofa_otel.exporters.registry import select


class Observation:
    """One run being observed.

    Args:
        settings: Everything the user may set.
        command: The target's arguments, for the record.
        environment: The target's environment, for its identity.

    Raises:
        RequirementError: A collector that was named cannot run here.
        UsageError: The run directory cannot be made.
    """

    def __init__(self, settings: Settings, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.identity: Identity = detect_identity(environment)
        self.job = self.identity.job or _job_name(command)
        self.rank = self.identity.rank or 0
        chosen = select(settings.collect, settings.profile)
        self.collectors: list[Collector] = chosen.collectors
        redactor = Redactor(settings.redact)
        started = time.time_ns()
        directory = Path(settings.output or default_run_name(datetime.now(), self.job, self.rank))
        meta = RunMeta(
            command=redactor.argv(command),
            started_ns=started,
            job=self.job,
            rank=self.rank,
            world_size=self.identity.world_size or 1,
            warnings=[one_line(warning) for warning in chosen.warnings],
            host=socket.gethostname(),
            pid=os.getpid(),
            facts={"cpu.count": float(os.cpu_count() or 0)},
        )
        self.status = StatusLine()
        self._begun = False
        self.writer = RunWriter.create_free(directory, meta, warn=self._say_once)
        self.totals = Totals(started)
        self._endpoint: PrometheusEndpoint | None = None
        self._otlp: Otlp | None = None
        self._environment = environment
        self._resource = job_resource(
            self.job,
            self.rank,
            world_size=self.identity.world_size or 1,
            local_rank=self.identity.local_rank,
            host=socket.gethostname(),
            environ=environment,
        )
        self.session: Session | None = None

    def target_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """``environment`` with what the collectors add."""
        out = dict(environment)
        for collector in self.collectors:
            if isinstance(collector, ProbeCollector):
                collector.live_in(self.writer.directory)
            out |= collector.environment()
        out["SOFA_PROBE_HOOKS"] = "on" if self.settings.hooks else "off"
        if {"proc", "cgroup"} <= {collector.name for collector in self.collectors}:
            out["SOFA_PROBE_COUNTERS"] = "off"  # the same figures, read from outside at no cost to the target
        return out

    def attach_collectors(self, pid: int) -> None:
        """Start the collectors on the process tree of ``pid``; still no thread."""
        target = Target(
            pid=pid,
            job=self.job,
            rank=self.rank,
            host=socket.gethostname(),
            run_dir=str(self.writer.directory),
            hooks=self.settings.hooks,
        )
        listeners: list[Listener] = [self.status]
        if self.settings.otlp:
            redactor = Redactor(self.settings.redact)
            self._otlp = Otlp(
                self.totals, self._resource, self.settings.otlp, self.settings.sample_ratio, self.writer.warn, self._environment
            )
            listeners.append(self._otlp)
            self.writer.update(endpoints=[redactor.text(self.settings.otlp)])
        lateness_ns = int(self.settings.lateness_s * 1e9)
        self.session = Session(
            self.writer,
            self.collectors,
            target,
            Ranks(self.rank),
            self.totals,
            listeners,
            governor=Governor(self.settings.budget),
            lateness_ns=lateness_ns,
        )
        self.session.start_collectors()

    def begin(self) -> None:
        """Serve metrics, send telemetry and begin polling."""
        assert self.session is not None
        self._serve_metrics()
        self._begun = True
        if self._otlp is not None:
            self._otlp.start()
        self.session.start()

    def end(self, exit_code: int | None) -> None:
        """The target has ended: take the rest, close the run."""
        if self.session is not None:
            self.session.stop()
        if self._otlp is not None and (lost := self._otlp.stop()):
            self.writer.warn(lost)
        if self._endpoint is not None:
            self._endpoint.stop()
        self.writer.update(exit_code=exit_code, ended_ns=time.time_ns(), metrics="")
        self.writer.close()

    def publish(self) -> None:
        """Write ``report.html`` and print the summary, both as far as they can be made."""
        from sofa_otel.cli.document import PAGE, as_page, as_text, document, open_runs

        directory = self.writer.directory
        report = document(open_runs([directory]))
        if not self.settings.quiet:
            width = min(shutil.get_terminal_size((100, 24)).columns, 120)
            self._say(as_text(report, width=width, color=sys.stderr.isatty()))
        page = directory / PAGE
        page.write_text(as_page(report), encoding="utf-8")
        if not self.settings.quiet:
            size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6
            left = f"OTLP to {self.settings.otlp}" if self.settings.otlp else "nothing"
            self._say(f"kept       {directory} ({size:.1f} MB)\npage       {page}\nleft the machine: {left}")

    def _serve_metrics(self) -> None:
        endpoint = PrometheusEndpoint(
            self.totals.points, self.settings.listen, self.settings.port, self._resource, note=self._say_once
        )
        try:
            endpoint.start()
        except Exception as error:  # noqa: BLE001 - a run without /metrics is still a run
            self.writer.warn(f"no /metrics: {error}")
            return
        self._endpoint = endpoint
        self.writer.update(metrics=endpoint.url)

    def _say_once(self, message: str) -> None:
        """Tell at once what is known before the target begins; later the terminal is the target's, and the summary tells."""
        if not self.settings.quiet and not self._begun:
            self._say(f"sofa: {message}")

    @staticmethod
    def _say(text: str) -> None:
        click.echo(text, err=True)


def _job_name(command: Sequence[str]) -> str:
    """A name for a job that has none: its script's."""
    for word in command:
        if word.endswith((".py", ".sh")):
            return Path(word).stem
    return Path(command[0]).name if command else "job"
