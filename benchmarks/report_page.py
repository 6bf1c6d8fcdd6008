"""How long the report page takes to make and to open: the largest report against an empty one, in the same browser.

Bar: 5,000 iterations × 64 swarms × 64 ranks open in < 3 s and stay < 5 MB. Opening ends when the first frame with the
iterations chart is drawn.

    python benchmarks/report_page.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from sofa_otel.dashboards.report.page import render_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/dashboards"))
import synthetic_reports as synthetic

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def open_s(browser: Browser, file: Path) -> float:
    """Seconds from the request for the page to its first drawn frame."""
    page = browser.new_page(viewport={"width": 1440, "height": 2400})
    begin = time.perf_counter()
    page.goto(file.as_uri())
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seconds = time.perf_counter() - begin
    drawn = page.locator("#chart-iterations canvas").count()
    assert drawn == page.locator("#chart-iterations").count(), "the chart was not drawn yet"
    page.close()
    return seconds


def main() -> None:
    """Prints a row a report and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    reports = {"empty": synthetic.empty(), "240 × 10 × 1": synthetic.rich(), "5,000 × 64 × 64": synthetic.huge()}
    medians: dict[str, float] = {}
    with sync_playwright() as session, tempfile.TemporaryDirectory() as folder:
        browser = session.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, report in reports.items():
            begin = time.process_time()
            html = render_page(report)
            made = time.process_time() - begin
            file = Path(folder) / "report.html"
            file.write_text(html, "utf-8")
            medians[name] = statistics.median(open_s(browser, file) for _ in range(rounds))
            print(f"{name:>16}  made in {made:.2f} CPU s  {len(html.encode()) / 1e6:.2f} MB  opened in {medians[name]:.2f} s")
        browser.close()
    print(f"largest / empty: {medians['5,000 × 64 × 64'] / medians['empty']:.1f}x")


if __name__ == "__main__":
    main()
