"""The house stands: no room shadows another, layers hold, and what runs beside a trainer loads nothing heavy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = sorted(folder.parent for folder in ROOT.glob("*/sofa_otel") if folder.is_dir())


def test_the_namespace_has_no_init_file() -> None:
    assert len(ROOMS) >= 6
    assert [room.name for room in ROOMS if (room / "sofa_otel" / "__init__.py").exists()] == []


def test_every_room_is_typed_and_holds_one_package() -> None:
    for room in ROOMS:
        packages = [folder for folder in (room / "sofa_otel").iterdir() if folder.is_dir() and folder.name != "__pycache__"]
        assert len(packages) == 1, room
        assert (packages[0] / "py.typed").exists(), room
        assert (packages[0] / "__init__.py").exists(), room


def test_layers_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed: pip install import-linter")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


BASE = (
    "sofa_otel.core.run", "sofa_otel.core.codec", "sofa_otel.core.segments", "sofa_otel.core.identity",
    "sofa_otel.core.settings", "sofa_otel.core.clock", "sofa_otel.core.redact", "sofa_otel.core.totals",
    "sofa_otel.core.telemetry", "sofa_otel.core.records", "sofa_otel.exporters.collector", "sofa_otel.exporters.registry",
)  # fmt: skip
HEAVY = ("pandas", "scipy", "grpc", "sklearn", "statsmodels", "matplotlib", "torch", "requests", "jinja2", "rich", "hypothesis")


def test_the_agents_base_modules_load_nothing_heavy() -> None:
    code = (
        f"import sys, importlib\nfor m in {BASE!r}: importlib.import_module(m)\n"
        f"print(*sorted(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_nothing_in_production_imports_the_test_generators() -> None:
    files = [file for room in ROOMS for file in room.rglob("*.py") if "testing" not in file.parts]
    assert [file for file in files if re.search(r"sofa_otel\.core\.testing", file.read_text())] == []


def test_the_wheel_holds_every_room_and_its_data(tmp_path: Path) -> None:
    if shutil.which("uv") is None and not Path(sys.executable).with_name("pip").exists():
        pytest.skip("no builder is installed: pip install build")
    hatchling = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed: pip install hatchling")
    name = next(hatchling.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    import zipfile

    held = zipfile.ZipFile(name).namelist()
    for room in ROOMS:
        assert any(
            path.startswith(f"sofa_otel/{next(p for p in (room / 'sofa_otel').iterdir() if p.is_dir()).name}/") for path in held
        )
    assert "sofa_otel/__init__.py" not in held
    assert "sofa_otel/core/schemas/run-v1.json" in held
    assert not any("node_modules" in path or path.startswith("tests/") for path in held)
