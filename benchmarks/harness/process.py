"""One test's ``sofa`` command: a folder of its own, and a mark by which every process that it caused is found again."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.live import SOFA

MARK = "SOFA_E2E_MARK"


class Sofa:
    """Runs ``sofa`` in a folder of its own; every process it causes carries a mark in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SOFA_", "OTEL_"))}
        self.environment = {**keep, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", MARK: self.mark}

    def command(self, *arguments: object) -> list[str]:
        """The command line of ``sofa ARGUMENTS``."""
        return [str(SOFA), *map(str, arguments)]

    def __call__(self, *arguments: object, timeout: float = 240, **more: str) -> subprocess.CompletedProcess[str]:
        """Run to the end. ``more`` are variables of the environment."""
        return self.plain(*self.command(*arguments), timeout=timeout, **more)

    def plain(self, *command: object, timeout: float = 240, **more: str) -> subprocess.CompletedProcess[str]:
        """Run any command in the same way, without SOFA."""
        return subprocess.run(
            [str(c) for c in command],
            env={**self.environment, **more},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: object, **more: str) -> subprocess.Popen[str]:
        """Start ``sofa ARGUMENTS`` and return at once."""
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, **more},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def report(self, *runs: Path) -> dict[str, Any]:
        """The report of runs as a document; fails the test when it cannot be made."""
        done = self("report", *runs, "--format", "json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def alive(self) -> list[tuple[int, str]]:
        """Processes that this test caused and that still run."""
        out = []
        needle = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if needle in (folder / "environ").read_bytes():
                    out.append((int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
            except OSError:
                continue
        return out


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Poll until ``condition`` is true. Fails the test after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")
