"""The check that keeps registry hosts out of the repository finds one that is planted, and none that is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / "tools" / "check_hosts.py"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CHECK], cwd=folder, capture_output=True, text=True, check=False)


def test_a_planted_host_is_found(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "lock").write_text("numpy==1\n--index-url https://" + "py" + "pi.org/simple\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "lock:2" in done.stderr


def test_hashes_are_fine(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "lock").write_text("numpy==1 --hash=sha256:00\n")
    assert run(tmp_path).returncode == 0
