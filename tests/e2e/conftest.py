"""Fixtures of the end-to-end tests: real trainers, a real ``sofa``, and a check that nothing stays behind.

A tool that is missing fails the test in CI and skips it elsewhere, with the command that brings it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from harness import trainers  # noqa: E402
from harness.bars import TRACEFS  # noqa: E402
from harness.process import Sofa, wait_for  # noqa: E402


def need(found: Any, hint: str) -> None:
    """Fail in CI, skip elsewhere, when ``found`` is falsy."""
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing in CI: {hint}")
        pytest.skip(f"missing: {hint}")


def _trainer(kind: str, version: str = "") -> Path:
    python = trainers.find_trainer(kind, version)
    if python is None and version:
        pytest.skip(f"no {kind} environment with Python {version}")
    need(python, trainers.HINT[kind])
    assert python is not None
    return python


@pytest.fixture(scope="session")
def trainer() -> Callable[..., Path]:
    """``trainer(kind, version)``: a user's interpreter; a version of one's own choice is not demanded."""
    return _trainer


@pytest.fixture(scope="session")
def demo_python() -> Path:
    """Interpreter of a user with numpy and scikit-learn."""
    return _trainer("demo")


@pytest.fixture(scope="session")
def torch_python() -> Path:
    """Interpreter of a user with torch."""
    return _trainer("torch")


@pytest.fixture(scope="session", autouse=True)
def tracefs() -> Iterator[None]:
    """As root, mount what system call events need, where the machine has not; take it away afterwards."""
    mounted = False
    if os.geteuid() == 0 and not (TRACEFS / "events").exists():
        command = ["mount", "-t", "tracefs", "nodev", str(TRACEFS)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield
    if mounted:
        subprocess.run(["umount", str(TRACEFS)], capture_output=True, check=False)


@pytest.fixture
def root() -> None:
    """Skip where the test cannot become root: mounts and control groups need it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def network_namespace(root: None) -> list[str]:
    """Prefix that runs a command with a loopback interface of its own: torchrun's store listens on every interface."""
    need(shutil.which("unshare") and shutil.which("ip"), "apt-get install util-linux iproute2")
    return ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


@pytest.fixture
def sofa(tmp_path: Path) -> Iterator[Sofa]:
    """``sofa`` for one test; afterwards no process that the test caused may be left."""
    runner = Sofa(tmp_path)
    yield runner
    wait_for(lambda: not runner.alive(), f"the end of {runner.alive()}", seconds=10)
