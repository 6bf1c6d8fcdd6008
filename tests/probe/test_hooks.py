"""Library hooks on a real torch: exact counts, and a training that does not change."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from sofa_otel.core.kinds import Call, Kind

TRAIN = """
import io, sys, time
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0); torch.set_num_threads(1)
time.sleep(.6)
data = DataLoader(TensorDataset(torch.randn(640, 16), torch.randint(0, 4, (640,))), batch_size=16)
model = torch.nn.Linear(16, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=.1)
for epoch in range(3):
    for inputs, labels in data:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), io.BytesIO())
print('%.12f' % loss.item())
"""


def torch_pythons() -> list[str]:
    """Interpreters that have torch: ``SOFA_TEST_TORCH_PYTHONS``, else the environments that ``make tools`` makes."""
    listed = os.environ.get("SOFA_TEST_TORCH_PYTHONS", "")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sofa-tools"
    candidates = listed.split(os.pathsep) if listed else [str(path) for path in sorted(cache.glob("torch-*/bin/python"))]
    return [path for path in candidates if shutil.which(path)]


pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch_pythons(), reason="no torch environment: pip install -r examples/requirements-torch.txt"),
]


@pytest.mark.parametrize("torch_python", torch_pythons() or [sys.executable], ids=lambda path: Path(path).parents[1].name)
def test_hooks_count_exactly_and_change_nothing(watch: Any, alone: Any, torch_python: str) -> None:
    seen, without = watch(torch_python, TRAIN), alone(torch_python, TRAIN)
    assert (seen.code, seen.out, seen.err) == (without.code, without.out, without.err)
    calls = seen.calls(Call.HOOK)
    assert calls["optimizer.step", 0] == 120
    assert calls["autograd.backward", 0] == 120
    assert calls["checkpoint.save", 0] == 3
    assert 120 <= calls["dataloader.next", 0] <= 123
    assert {symbol.module for symbol in seen.symbols(Kind.PYTHON_CALL) if symbol.function == "optimizer.step"} == {"torch"}


@pytest.mark.parametrize("torch_python", torch_pythons()[:1] or [sys.executable])
def test_hooks_off_leaves_torch_alone(watch: Any, torch_python: str) -> None:
    source = TRAIN + "\nimport torch.optim.optimizer as o\nprint(len(o._global_optimizer_pre_hooks))\n"
    seen = watch(torch_python, source, env={"SOFA_PROBE_HOOKS": "off"})
    assert seen.out.splitlines()[-1] == "0"
    assert not seen.calls(Call.HOOK)
