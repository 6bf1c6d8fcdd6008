"""Finds the interpreters that trainers run in.

They are environments as a user would have them, apart from ours: made by ``make test`` (see the Makefile), or any others that the
variables name.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("SOFA_TOOLS") or Path.home() / ".cache" / "sofa-tools")
_VARIABLE = {"demo": "SOFA_DEMO_PYTHON", "torch": "SOFA_TORCH_PYTHON"}
_MODULE = {"demo": "sklearn", "torch": "torch"}
HINT = {"demo": "make .venv-demo/.done", "torch": "make test (it installs torch outside the checkout)"}


def find_trainer(kind: str, version: str = "") -> Path | None:
    """Interpreter with what jobs of ``kind`` (``demo`` or ``torch``) need, None if there is none.

    Args:
        kind: ``demo`` (numpy, scikit-learn) or ``torch``.
        version: Python version wanted, as ``3.13``; empty for whichever the Makefile made.
    """
    candidates = [Path(os.environ[_VARIABLE[kind]])] if os.environ.get(_VARIABLE[kind]) else []
    if kind == "demo":
        candidates.append(ROOT / ".venv-demo" / "bin" / "python")
    ours = f"py{sys.version_info.major}.{sys.version_info.minor}"
    candidates += sorted(TOOLS.glob(f"{kind}-*/bin/python"), key=lambda p: (ours not in p.parts[-3], p))
    for python in candidates:
        if python.exists() and version in ("", _version(python)) and _has(python, _MODULE[kind]):
            return python
    return None


@functools.cache
def _version(python: Path) -> str:
    probe = [str(python), "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip()


@functools.cache
def _has(python: Path, module: str) -> bool:
    probe = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-I", "-c", probe], capture_output=True, check=False).returncode == 0
