"""The live view of a ``/metrics`` endpoint: what ``sofa top URL`` shows of an agent elsewhere."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from sofa_otel.core import names
from sofa_otel.core.errors import WorkFailedError
from sofa_otel.core.prometheus_names import metric_name

Sample = tuple[dict[str, str], float]


class UrlView:
    """Picture of one scrape after another; rates are between two of them."""

    def __init__(self, url: str) -> None:
        self._url = url if url.rstrip("/").endswith("/metrics") else url.rstrip("/") + "/metrics"
        self._before: dict[str, list[Sample]] = {}
        self._now = self._scrape()

    def alive(self) -> bool:
        """Take the next scrape; False when the endpoint is gone."""
        try:
            self._before, self._now = self._now, self._scrape()
        except WorkFailedError:
            return False
        return True

    def picture(self) -> Any:
        """The whole screen."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._url, title_justify="left", expand=True)
        for column in ("job", "rank", "iterations", "s per iteration (lately)", "bottleneck (lately)"):
            table.add_column(column)
        for key in sorted({self._key(labels) for labels, _ in self._now.get(metric_name(names.ITERATION_COUNT), [])}):
            count, fresh = self._sum(names.ITERATION_COUNT, key)
            seconds, lately = self._sum(names.ITERATION_TIME, key)
            per = lately / fresh if fresh else (seconds / count if count else 0.0)
            table.add_row(*key, f"{count:.0f}", f"{per:.4f}", self._bottleneck(key))
        return Group(table, Text("Ctrl-C ends", style="dim"))

    def _scrape(self) -> dict[str, list[Sample]]:
        from prometheus_client.parser import text_string_to_metric_families

        try:
            with urlopen(self._url, timeout=5) as answer:  # noqa: S310 - the user typed this address
                text = answer.read().decode()
        except (URLError, OSError, ValueError) as error:
            raise WorkFailedError(
                f"cannot read {self._url}: {error}", "see run.json for the address of a run's /metrics"
            ) from error
        out: dict[str, list[Sample]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                out.setdefault(sample.name, []).append((sample.labels, sample.value))
        return out

    @staticmethod
    def _key(labels: dict[str, str]) -> tuple[str, str]:
        return labels.get("sofa_job_id", ""), labels.get("sofa_rank", "")

    def _sum(self, metric: names.Metric, key: tuple[str, str]) -> tuple[float, float]:
        name = metric_name(metric)
        now = sum(value for labels, value in self._now.get(name, []) if self._key(labels) == key)
        before = sum(value for labels, value in self._before.get(name, []) if self._key(labels) == key)
        return now, now - before if self._before else 0.0

    def _bottleneck(self, key: tuple[str, str]) -> str:
        name = metric_name(names.ITERATION_BOTTLENECK_TIME)
        before = {labels["sofa_resource"]: value for labels, value in self._before.get(name, []) if self._key(labels) == key}
        spent = {
            labels["sofa_resource"]: value - before.get(labels["sofa_resource"], 0.0)
            for labels, value in self._now.get(name, [])
            if self._key(labels) == key
        }
        total = sum(spent.values())
        if total <= 0:
            return ""
        top = max(spent, key=lambda resource: spent[resource])
        return f"{top} {100 * spent[top] / total:.0f} %"
