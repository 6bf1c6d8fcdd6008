"""A report page in a browser, with everything it complained about or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

WEB = Path(__file__).parents[2] / "dashboards/sofa_otel/dashboards/report/web"


class Opened:
    """A page in the browser with everything it complained about or asked for."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.file = page, folder / "report.html"
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, html: str) -> None:
        self.file.write_text(html, "utf-8")
        self.page.goto(self.file.as_uri())

    def scroll_through(self) -> None:
        """Brings every part near the screen, so that all charts are drawn."""
        height: int = self.page.evaluate("document.documentElement.scrollHeight")
        for y in range(0, height, 500):
            self.page.evaluate(f"scrollTo({{top: {y}, behavior: 'instant'}})")
            self.page.wait_for_timeout(30)
        self.page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        self.page.wait_for_timeout(50)

    def ink(self, chart: str) -> int:
        """Distinct colours on a chart's canvas: 0 or 1 is an empty one."""
        return int(
            self.page.evaluate(
                """id => { const c = document.querySelector(`#${id} canvas`); if (!c) return 0;
                const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Set();
                for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
                return seen.size; }""",
                chart,
            )
        )

    def picture(self, chart: str) -> str:
        """A chart's canvas, for telling whether it changed."""
        return str(self.page.evaluate("id => document.querySelector(`#${id} canvas`).toDataURL()", chart))

    def settle(self) -> None:
        """Waits until the frames under way are drawn, two seconds at most: a starved compositor may stop drawing."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(f"Promise.race([{frames}, new Promise(done => setTimeout(done, 2000))])")
