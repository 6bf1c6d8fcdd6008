"""GPU counters through the real binding: a shim library stands for the driver, whole, old, and absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def run(library: Path | None) -> dict[str, Any]:
    environment = dict(os.environ)
    environment.pop("LD_LIBRARY_PATH", None)
    if library is not None:
        environment["LD_LIBRARY_PATH"] = str(library)
    command = [sys.executable, str(HERE / "nvml_live.py")]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture
def driver(tmp_path: Path):
    pytest.importorskip("pynvml", reason="pip install 'sofa-otel[gpu]'")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc") if not os.environ.get("CI") else pytest.fail("needs gcc")

    def compile_shim(*flags: str) -> Path:
        source = HERE / "shim/nvml_shim.c"
        out = tmp_path / "libnvidia-ml.so.1"
        subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", *flags, "-o", str(out), str(source)], check=True)
        return tmp_path

    return compile_shim


def gpu(index: int, **more: str) -> str:
    base = {"hw.id": f"GPU-00000000-0000-0000-0000-00000000000{index}", "hw.name": "Shim A100", "hw.type": "gpu"}
    return str(dict(sorted((base | {key.replace("__", "."): value for key, value in more.items()}).items())))


def test_two_gpus(driver: Any) -> None:
    found = run(driver())
    points = found["points"]
    assert found["usable"]
    assert points["hw.gpu.utilization" + gpu(0, hw__gpu__task="general")] == 0.4
    assert points["hw.gpu.utilization" + gpu(1, hw__gpu__task="general")] == 0.5
    assert points["hw.gpu.memory.usage" + gpu(0)] == 20 << 30
    assert points["hw.gpu.memory.utilization" + gpu(0)] == 0.25
    assert points["hw.power" + gpu(0)] == 250
    assert points["hw.energy" + gpu(0)] == 1500, "a counter in joules"
    assert points["hw.temperature" + gpu(0)] == 65
    assert points["sofa.gpu.clock.frequency" + gpu(0)] == 1.41e9
    assert points["sofa.gpu.throttle.active" + gpu(0, sofa__gpu__throttle__reason="sw_power_cap")] == 1
    assert points["sofa.gpu.throttle.active" + gpu(0, sofa__gpu__throttle__reason="hw_slowdown")] == 0
    assert points["sofa.gpu.throttle.active" + gpu(1, sofa__gpu__throttle__reason="hw_thermal_slowdown")] == 1
    assert points["hw.gpu.io" + gpu(0, network__io__direction="receive")] == 2048 * 1024, "KiB/s over one second"
    assert points["hw.gpu.io" + gpu(0, network__io__direction="transmit")] == 1024 * 1024
    assert points["hw.errors" + gpu(0, error__type="corrected")] == 12
    assert not [key for key in points if key.startswith("hw.errors" + gpu(1)[:-1])], "the second GPU has no ECC"
    assert found["warnings"] == ["nvml: ECC errors left out: Not Supported"]
    assert found["batches"] == 2
    assert found["dropped"] == 0


def test_a_driver_without_a_function_loses_that_metric_and_no_other(driver: Any) -> None:
    whole, old = run(driver()), run(driver("-DNO_PCIE"))
    assert set(whole["points"]) - set(old["points"]) == {
        "hw.gpu.io" + gpu(index, network__io__direction=way) for index in (0, 1) for way in ("receive", "transmit")
    }
    assert [text for text in old["warnings"] if "PCIe" in text] == ["nvml: PCIe throughput left out: Function Not Found"]


def test_energy_is_integrated_where_the_driver_does_not_count_it(driver: Any) -> None:
    found = run(driver("-DNO_ENERGY"))
    assert found["points"]["hw.energy" + gpu(0)] == pytest.approx(250), "250 W for the second between the polls"
    assert sum("energy" in text for text in found["warnings"]) == 1


def test_without_a_driver_it_says_so() -> None:
    found = run(None)
    if found["usable"]:
        pytest.skip("this machine has an NVIDIA driver")
    assert "libnvidia-ml.so.1" in found["missing"] or "nvidia-ml-py" in found["missing"]
    assert found["remedy"]
