"""The page in a real browser: it draws, it answers, it asks for nothing, and everybody can use it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_reports as synthetic
from page_driver import WEB, Opened

from sofa_otel.core.report import Report
from sofa_otel.dashboards.report import view
from sofa_otel.dashboards.report.page import render_page

pytestmark = pytest.mark.e2e

Open = Callable[..., Opened]
KINDS: dict[str, Callable[[], Report]] = {
    "rich": synthetic.rich,
    "ddp": lambda: synthetic.rich(ranks=2),
    "quiet": synthetic.quiet,
    "empty": synthetic.empty,
    "hostile": synthetic.hostile,
    "huge": synthetic.huge,
}


@functools.cache
def draw(kind: str) -> str:
    return render_page(KINDS[kind]())


CHARTS = ("chart-iterations", "chart-lanes", "chart-histogram", "chart-ranks")


@pytest.mark.parametrize("kind", KINDS)
def test_no_complaint_and_no_request(opened: Open, kind: str) -> None:
    page = opened(draw(kind))
    page.scroll_through()
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [page.file.as_uri()]
    assert page.page.evaluate("window.pwned") is None


@pytest.mark.parametrize("kind", ["ddp", "huge"])
def test_every_chart_has_ink(opened: Open, kind: str) -> None:
    page = opened(draw(kind))
    page.scroll_through()
    for chart in CHARTS:
        assert page.ink(chart) > 4, chart
    assert page.page.locator("#chart-flame g.frame").count() > 10
    for section in page.page.locator("main section").all():
        assert len(section.inner_text()) > 40
        assert section.locator(".empty").count() == 0


def test_an_empty_run_draws_nothing_and_says_why(opened: Open) -> None:
    page = opened(draw("empty"))
    page.scroll_through()
    assert page.page.locator("canvas").count() == 0
    assert page.page.locator(".empty").count() >= 11


def test_zoom_moves_every_chart_together(opened: Open) -> None:
    page = opened(draw("ddp"))
    page.scroll_through()
    before = {chart: page.picture(chart) for chart in CHARTS}
    page.page.click("[data-zoom=in]")
    page.settle()
    after = {chart: page.picture(chart) for chart in CHARTS}
    assert {chart for chart in CHARTS if before[chart] != after[chart]} == {"chart-iterations", "chart-lanes", "chart-ranks"}
    assert " to " in page.page.inner_text("#window-text")
    page.page.click("[data-zoom=reset]")
    page.settle()
    assert page.picture("chart-iterations") == before["chart-iterations"]
    assert page.page.inner_text("#window-text") == "whole run"


def test_keys_zoom_and_move_and_never_leave_the_run(opened: Open) -> None:
    page = opened(draw("rich"))
    page.page.focus("#chart-iterations")

    def axis() -> dict[str, float]:
        return dict(page.page.evaluate("(({low, high, first, last}) => ({low, high, first, last}))(window.sofaReport.axis)"))

    for key in "wwww":
        page.page.keyboard.press(key)
    zoomed = axis()
    assert zoomed["high"] - zoomed["low"] < 0.3 * (zoomed["last"] - zoomed["first"])
    for _ in range(60):
        page.page.keyboard.press("a")
    assert axis()["low"] == zoomed["first"]
    for _ in range(60):
        page.page.keyboard.press("w")
    assert axis()["high"] > axis()["low"]
    page.page.keyboard.press("0")
    assert (axis()["low"], axis()["high"]) == (zoomed["first"], zoomed["last"])


def test_zooming_in_shows_single_steps(opened: Open) -> None:
    page = opened(draw("huge"))
    page.scroll_through()
    assert "Each bar is the mean of" in page.page.inner_text("#grouping")
    page.page.evaluate("window.sofaReport.axis.set(60000, 80000)")
    page.settle()
    assert "Each bar" not in page.page.inner_text("#grouping")


def test_colour_by_kind_changes_the_picture_and_the_legend(opened: Open) -> None:
    page = opened(draw("rich"))
    page.scroll_through()
    before = page.picture("chart-iterations")
    assert "data loading" in page.page.inner_text("#legend")
    page.page.select_option("#colour", "kind")
    page.settle()
    assert page.picture("chart-iterations") != before
    assert "warm-up" in page.page.inner_text("#legend")
    assert "data loading" not in page.page.inner_text("#legend")


def test_the_swarm_table_sorts_filters_and_opens(opened: Open) -> None:
    page = opened(draw("rich")).page
    captions = page.locator("#swarm-table button.open")
    first = captions.first.inner_text()
    header = page.locator("#swarm-table th", has_text="Trend")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    trends = [float(cell.get_attribute("data-v") or "nan") for cell in page.locator("#swarm-table tr > td:nth-child(8)").all()]
    assert trends == sorted(trends, reverse=True)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert page.locator("#swarm-table [aria-sort=descending]").count() == 0
    page.locator("#swarm-table th", has_text="Share").locator("button").click()
    assert captions.first.inner_text() == first
    captions.first.click()
    assert captions.first.get_attribute("aria-expanded") == "true"
    assert page.locator("#swarm-0").is_visible()
    page.fill("#filter", "conv2d")
    assert page.locator("#swarm-table tbody:visible").count() == 1
    assert page.inner_text("#filtered") == "1 of 10"


def test_the_flame_graph_follows_its_swarm(opened: Open) -> None:
    page = opened(draw("rich"))
    page.scroll_through()
    frames = page.page.locator("#chart-flame g.frame")
    before = [frames.nth(at).text_content() for at in range(3)]
    page.page.select_option("#flame-swarm", "2")
    page.settle()
    assert [frames.nth(at).text_content() for at in range(3)] != before
    page.page.locator("#flame details summary").click()
    assert page.page.locator("#flame-table tbody tr").count() > 5


def test_the_theme_follows_the_system_and_the_button(opened: Open) -> None:
    page = opened(draw("rich"), color_scheme="dark")
    page.scroll_through()

    def ground() -> str:
        return str(page.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    dark, picture = ground(), page.picture("chart-iterations")
    page.page.click("#theme")
    page.settle()
    assert ground() != dark
    assert page.picture("chart-iterations") != picture
    assert "light" in (page.page.get_attribute("#theme", "aria-label") or "")
    page.page.click("#theme")
    page.page.click("#theme")
    assert "system" in (page.page.get_attribute("#theme", "aria-label") or "")
    assert ground() == dark


@pytest.mark.parametrize("width", [1600, 1024, 700, 390])
@pytest.mark.parametrize("kind", ["ddp", "hostile"])
def test_no_width_needs_sideways_scrolling(opened: Open, kind: str, width: int) -> None:
    page = opened(draw(kind), viewport={"width": width, "height": 900})
    page.scroll_through()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_reads_without_a_script(opened: Open) -> None:
    page = opened(draw("rich"), java_script_enabled=False).page
    text = page.inner_text("main")
    for part in ("The data loader holds every step up", "Raise num_workers", "63.6\u00a0ms", "Nothing left this machine"):
        assert part in text


def test_it_prints_everything_on_light_ground(opened: Open) -> None:
    page = opened(draw("ddp"), color_scheme="dark")
    assert len(page.page.pdf(format="A4", print_background=True)) > 50_000
    assert page.complaints == []


def test_the_page_writes_numbers_as_the_terminal_does(opened: Open) -> None:
    page = opened(draw("empty")).page
    values = [0, 4.2e-8, 1.5e-6, 0.0009996, 0.0152, 0.152, 0.9996, 1.5, 59.94, 99.96, 3599.7, 7265, 90_000, -0.002]
    write = "values => values.map(v => window.sofaReport.format.seconds(v))"
    assert page.evaluate(write, values) == [view.seconds(value) for value in values]
    pairs: list[tuple[float, str]] = [
        (1_500_000, "By"),
        (999.7, "By/s"),
        (0.41, "1"),
        (0.0004, "1"),
        (2.25, "cores"),
        (61.4, "Cel"),
        (250, "W"),
    ]
    write = "pairs => pairs.map(([v, unit]) => window.sofaReport.format.quantity(v, unit))"
    assert page.evaluate(write, pairs) == [view.quantity(value, unit) for value, unit in pairs]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["ddp", "hostile", "empty"])
def test_axe_finds_nothing(opened: Open, kind: str, theme: str) -> None:
    axe = WEB / "node_modules/axe-core/axe.min.js"
    if not axe.exists():
        pytest.skip(f"axe-core is not installed: npm ci in {WEB.name}/")
    page = opened(draw(kind), color_scheme=theme)
    page.scroll_through()
    for details in page.page.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    for button in page.page.locator("button.open").all()[:2]:
        button.click()
    page.page.evaluate(axe.read_text("utf-8"))
    result: dict[str, Any] = page.page.evaluate("axe.run()")
    assert len(result["passes"]) > 20
    assert [(violation["impact"], violation["id"], violation["nodes"][0]["target"]) for violation in result["violations"]] == []
