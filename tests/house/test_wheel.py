"""The house as a package: one namespace over several rooms, and a wheel that lacks nothing a user needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = [Path(p).parent.name for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_no_room_owns_the_namespace():
    """A single ``sofa_otel/__init__.py`` would hide all other rooms (PEP 420)."""
    assert not [room for room in ROOMS if (ROOT / room / "sofa_otel" / "__init__.py").exists()]


def test_every_room_holds_one_package_of_its_own_name():
    for room in ROOMS:
        packages = [p.name for p in (ROOT / room / "sofa_otel").iterdir() if (p / "__init__.py").exists()]
        assert packages == [room]


def test_wheel_holds_every_file_of_every_room(wheel):
    listed = subprocess.run(
        ["git", "ls-files", *(f"{room}/sofa_otel" for room in ROOMS)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wanted = {name.split("/", 1)[1] for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    sources = {name for name in wanted if "/web/" in name and "/web/dist/" not in name and not name.endswith(".j2")}
    assert wanted - sources - wheel == set()


def test_wheel_holds_the_probe_and_the_page(wheel):
    assert "sofa_otel/exporters/probe/sitecustomize.py" in wheel
    assert any(name.startswith("sofa_otel/exporters/probe/_sofa_probe/") for name in wheel)
    assert any(name.startswith("sofa_otel/dashboards/report/web/dist/") for name in wheel)
    assert not any("node_modules" in name or "__pycache__" in name for name in wheel)


def test_extras_that_the_lock_covers():
    """``[all]`` names only extras that exist; the agent's own dependencies stay light."""
    project = PROJECT["project"]
    light = {r.split(">")[0].split("=")[0] for r in project["dependencies"]}
    assert not light & {"pandas", "scipy", "grpcio", "statsmodels"}
    assert project["scripts"]["sofa"] == "sofa_otel.cli.main:main"
