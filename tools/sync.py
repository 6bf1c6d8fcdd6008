"""Install into an environment with uv, or with pip where uv cannot.

uv is fast but does not read pip's configuration; a site whose pip knows a mirror still has to work.

    python tools/sync.py PYTHON requirements.lock      exact, hashes required
    python tools/sync.py PYTHON --loose FILE           as the file says
    python tools/sync.py PYTHON --editable FOLDER      our own package, without dependencies
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(python: str, *what: str) -> int:
    """Run one installation. Returns the exit code of the installer that was asked last."""
    if what[0] == "--editable":
        arguments = ["--no-deps", "--no-build-isolation", "-e", what[1]]
    elif what[0] == "--loose":
        arguments = ["-r", what[1]]
    else:
        arguments = ["--require-hashes", "-r", what[0]]
    uv = Path(sys.executable).with_name("uv")
    if uv.exists() and subprocess.run([uv, "pip", "install", "-q", "--python", python, *arguments], check=False).returncode == 0:
        return 0
    print("uv could not install; trying pip", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    return subprocess.run([*pip, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
