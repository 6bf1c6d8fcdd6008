"""How the probe gets in: found first, gone from sight, chained to whatever the program would have loaded without it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sofa_otel.exporters.collect.probe import ProbeCollector, probe_folder

LOOK = """
import os, sys, time
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
ours = [item for item in sys.path if 'exporters' in item]
print(ours, 'threading' in sys.modules, sys.getswitchinterval(), os.open(os.devnull, 0))
print([name for name in sys.modules if name.startswith(('sofa', 'wire', 'link'))])
"""


def test_nothing_is_to_be_seen(watch: Any, alone: Any, python: str) -> None:
    with_probe, without = watch(python, LOOK, "1.0"), alone(python, LOOK, "1.0")
    assert (with_probe.code, with_probe.out, with_probe.err) == (without.code, without.out, without.err)
    assert with_probe.streams


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_isolated_interpreters_have_no_probe_and_no_error(watch: Any, alone: Any, python: str, option: str) -> None:
    source = "import sys, time; time.sleep(.8); print(sorted(sys.modules))"
    with_probe, without = watch(python, source, options=(option,)), alone(python, source, options=(option,))
    assert (with_probe.code, with_probe.out, with_probe.err) == (without.code, without.out, without.err)
    assert with_probe.streams == []


@pytest.mark.parametrize("body", ["import sys; sys.mine = 'yes'", "raise RuntimeError('mine')", "import nowhere_at_all"])
def test_the_users_own_sitecustomize_runs(watch: Any, alone: Any, python: str, body: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "sitecustomize.py").write_text(body)
    source = "import sys, time\ntime.sleep(.8)\nprint(getattr(sys, 'mine', 'no'), sys.modules.get('sitecustomize') is None)"
    without = alone(python, source, env={"PYTHONPATH": str(mine)})
    with_probe = watch(python, source, env={"PYTHONPATH": f"{probe_folder()}{os.pathsep}{mine}"})
    assert (with_probe.code, with_probe.out.split()[0], with_probe.err) == (without.code, without.out.split()[0], without.err)
    assert with_probe.streams


def test_old_interpreters_are_left_alone(watch: Any, alone: Any, old_python: str) -> None:
    source = "import sys\nprint(sys.version_info[0], [item for item in sys.path if 'exporters' in item])"
    quiet = {"PYTHONDONTWRITEBYTECODE": "1"}  # Python 2 would put its bytecode beside the source
    with_probe, without = watch(old_python, source, env=quiet), alone(old_python, source, env=quiet)
    assert (with_probe.code, with_probe.out, with_probe.err) == (without.code, without.out, without.err)


def test_the_kill_switch(watch: Any, python: str) -> None:
    seen = watch(python, "import time; time.sleep(.8)", env={"SOFA_PROBE": "off"})
    assert (seen.code, seen.err, seen.streams) == (0, "", [])


def test_children_keep_the_environment_and_python_path_has_no_empty_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}/theirs{os.pathsep}{os.pathsep}")
    collector = ProbeCollector()
    try:
        environment = collector.environment()
        assert environment["PYTHONPATH"] == f"{probe_folder()}{os.pathsep}/theirs"
        assert len(environment["SOFA_PROBE_SOCKET"]) <= 100
        assert os.stat(Path(environment["SOFA_PROBE_SOCKET"]).parent).st_mode & 0o777 == 0o700
    finally:
        collector.stop()
    assert not Path(environment["SOFA_PROBE_SOCKET"]).parent.exists()


def test_the_folder_shadows_nothing() -> None:
    visible = {path.name for path in probe_folder().iterdir()} - {"__pycache__"}
    assert visible == {"sitecustomize.py", "_sofa_probe"}


def test_arguments_are_redacted(watch: Any, python: str) -> None:
    seen = watch(python, "import time; time.sleep(.9)", "--lr=0.1", "--api-key", "K1", "--password=K2", "http://me:K3@host/x")
    argv = seen.streams[0].hello.facts["argv"]
    assert "K1" not in argv
    assert "K2" not in argv
    assert "K3" not in argv
    assert "--lr=0.1" in argv
