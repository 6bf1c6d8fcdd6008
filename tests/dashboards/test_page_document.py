"""The page as a document, before any browser: one file, no address to fetch, nothing that escapes from its data."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import synthetic_reports as synthetic
from msgspec.structs import replace

from sofa_otel.core.report import Report
from sofa_otel.dashboards.report import payload, view
from sofa_otel.dashboards.report.page import render_page, spark_path

KINDS: list[Callable[[], Report]] = [
    synthetic.rich,
    lambda: synthetic.rich(ranks=2),
    synthetic.quiet,
    synthetic.empty,
    synthetic.hostile,
    synthetic.huge,
]
SECTIONS = [
    "summary",
    "findings",
    "time",
    "iterations",
    "resources",
    "distribution",
    "swarms",
    "flame",
    "correlations",
    "ranks",
    "movement",
    "collection",
]
VOID = {"meta", "link", "input", "br", "img"}


class Outline(html.parser.HTMLParser):
    """Elements, ids and scripts of a document; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


@pytest.mark.parametrize("make", KINDS)
def test_it_is_one_sound_document_below_its_size(make: Callable[[], Report]) -> None:
    page = render_page(make())
    outline = Outline(page)
    assert len(page.encode()) < 5_000_000
    assert len(outline.ids) == len(set(outline.ids))
    assert set(SECTIONS) <= set(outline.ids)
    assert [tag for tag, _ in outline.tags].count("h1") == 1
    assert [tag for tag, _ in outline.tags].count("script") == 2


@pytest.mark.parametrize("make", KINDS)
def test_it_asks_for_nothing(make: Callable[[], Report]) -> None:
    outline = Outline(render_page(make()))
    for tag, attributes in outline.tags:
        assert tag not in {"img", "iframe", "object", "embed", "video", "audio", "base", "form"}
        for name in ("src", "srcset", "data", "action", "poster", "background"):
            assert name not in attributes, tag
        target = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert target.startswith(("#", "data:,")), target
    policy = next(a["content"] for tag, a in outline.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_styles_fetch_nothing() -> None:
    style = re.search(r"<style>(.*?)</style>", render_page(synthetic.empty()), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


@pytest.mark.parametrize("make", KINDS)
def test_the_data_is_json_and_closes_nothing(make: Callable[[], Report]) -> None:
    outline = Outline(render_page(make()))
    data = outline.scripts[0]
    assert "<" not in data
    assert set(json.loads(data)) >= {"steps", "lanes", "flames", "ranks", "histogram"}


def test_hostile_text_stays_text() -> None:
    outline = Outline(render_page(synthetic.hostile()))
    assert len(outline.scripts) == 2
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)
    page = render_page(synthetic.hostile())
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "49" not in json.dumps(payload.chart_data(synthetic.hostile())["flames"])  # {{7*7}} is not evaluated


def test_the_verdict_is_the_strongest_finding() -> None:
    assert view.verdict(synthetic.rich()) == "The data loader holds every step up."
    assert view.verdict(synthetic.quiet()).startswith("Nothing stands out: 80 steps of ")
    assert view.verdict(synthetic.empty()).startswith("No iterations found: the program ran")


def test_every_section_without_content_says_why() -> None:
    page = render_page(synthetic.empty())
    for section in SECTIONS[1:]:
        body = page[page.index(f'<section id="{section}"') :]
        body = body[: body.index("</section>")]
        assert 'class="empty"' in body, section
        assert 'class="chart"' not in body, section


def test_more_steps_than_a_screen_has_columns_are_merged_but_counted() -> None:
    report = synthetic.rich(count=13_000, step=0.01, lane_points=10, swarms=3)
    steps = payload.chart_data(report)["steps"]
    assert steps["count"] == 13_000
    assert len(steps["start"]) == payload.STEPS
    assert steps["group"] == 3
    assert sum(steps["odd"]) <= sum(item.anomalous for item in report.iterations.items)
    assert max(steps["max"]) == max(round((item.end_ns - item.start_ns) / 1e3) for item in report.iterations.items)


def test_series_that_stay_at_zero_are_named_and_not_drawn() -> None:
    report = synthetic.rich()
    flat = replace(report.lanes[0], metric="system.network.errors", value=[0.0] * len(report.lanes[0].time_ns))
    drawn, left_out = payload.lanes(replace(report, lanes=[*report.lanes, flat]), payload.origin_ns(report))
    assert len(drawn) == 7
    assert left_out == ["Network errors · user"]


def test_sparklines_have_points_only_where_there_is_a_line() -> None:
    assert spark_path([1.0, 2.0]) == "0,10.0 96,1.0"
    assert spark_path([]) == spark_path([1.0]) == spark_path([0.0, 0.0]) == spark_path([float("nan"), 1.0]) == ""


def test_without_jinja2_the_remedy_is_named() -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "import synthetic_reports\n"
        "from sofa_otel.core.errors import MissingExtraError\n"
        "from sofa_otel.dashboards.report import page, text\n"
        "text.render_text(synthetic_reports.empty())\n"
        "try: page.render_page(synthetic_reports.empty())\n"
        "except MissingExtraError as error: print(error.exit_code, error.extra, error.remedy)\n"
    )
    folder = synthetic.__file__.rsplit("/", 1)[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    assert done.stdout == "3 run pip install 'sofa-otel[run]'\n"


def test_facts_that_hold_nothing_leave_no_empty_heading() -> None:
    hollow = replace(
        synthetic.quiet(), communication={"kinds": {}, "collectives": []}, network={"flows": []}, gpu={"devices": []}
    )
    page = render_page(hollow)
    assert "<strong>Nothing to show.</strong>" in page
    assert "<h3>Network</h3>" not in page


def test_a_swarm_beside_the_leading_thread_has_no_trend() -> None:
    report = synthetic.rich(count=20, swarms=2)
    beside = replace(report.swarms[0], time_s=0.0, share=0.0, per_iteration_s=0.0, trend=0.0)
    assert "ran only beside the leading thread" in render_page(replace(report, swarms=[report.swarms[1], beside]))
    assert view.trend(beside) == "–"
