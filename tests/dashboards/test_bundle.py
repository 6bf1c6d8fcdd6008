"""The committed bundle: what the sources give, with its licences, in the wheel and without its tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from page_driver import WEB

ROOT = WEB.parents[4]


def test_rebuilding_gives_the_same_bytes(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (WEB / "node_modules/esbuild").exists():
        pytest.skip("the bundle's tools are not installed: npm ci in dashboards/sofa_otel/dashboards/report/web")
    subprocess.run([node, "build.mjs", str(tmp_path)], cwd=WEB, check=True, capture_output=True)
    for name in ("dist/report.js", "dist/report.css", "NOTICES.md"):
        assert (tmp_path / name).read_bytes() == (WEB / name).read_bytes(), f"{name} is stale: npm run build"


def test_sources_type_check() -> None:
    compiler = WEB / "node_modules/typescript/bin/tsc"
    node = shutil.which("node")
    if node is None or not compiler.exists():
        pytest.skip("the bundle's tools are not installed: npm ci in dashboards/sofa_otel/dashboards/report/web")
    done = subprocess.run([node, str(compiler), "--noEmit"], cwd=WEB, check=False, capture_output=True, text=True)
    assert done.stdout == ""


def test_the_lock_file_names_no_host_and_pins_everything() -> None:
    text = (WEB / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in entry for name, entry in packages.items() if name)
    versions = json.loads((WEB / "package.json").read_text("utf-8"))["devDependencies"].values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


def test_notices_hold_a_licence_for_every_part_of_the_bundle() -> None:
    notices = (WEB / "NOTICES.md").read_text("utf-8")
    for package in ("echarts", "zrender", "tslib", "d3-flame-graph", "d3-selection", "d3-hierarchy", "d3-scale", "d3-ease"):
        assert re.search(rf"^## {package} [\d.]+ \([A-Za-z0-9.-]+\)$", notices, re.MULTILINE), package
    assert "Apache ECharts" in notices
    assert "Redistribution and use in source and binary forms" in notices


def test_the_bundle_ends_no_script_element() -> None:
    assert "</script" not in (WEB / "dist/report.js").read_text("utf-8").lower()
    assert "</style" not in (WEB / "dist/report.css").read_text("utf-8").lower()


def test_the_wheel_holds_the_bundle_and_not_its_tools(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    built = next(wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = zipfile.ZipFile(built).namelist()
    for name in ("page.html.j2", "dist/report.js", "dist/report.css", "NOTICES.md"):
        assert f"sofa_otel/dashboards/report/web/{name}" in names
    assert not any("node_modules" in name for name in names)
