"""Exact loops on Python 3.12 and later."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from sofa_otel.core.kinds import Call
from sofa_otel.core.records import CaptureRequest

TRAIN = """
import sys, time
def batches(count):
    for number in range(count):
        yield number
def train():
    time.sleep(.6)
    step = 0
    for batch in batches(300):
        time.sleep(.005)
        step += 1
    while step < 500:
        time.sleep(.005)
        step += 1
    return step
def crowd():
    end = time.time() + 1.5
    total = 0
    while time.time() < end:
        for number in range(100000):
            total += number
print(train())
crowd()
"""


def test_loop_that_was_running_before_is_counted_exactly(watch: Any, monitoring_python: str) -> None:
    seen = watch(monitoring_python, TRAIN)
    loops = seen.calls(Call.LOOP)
    assert (seen.code, seen.out, seen.err) == (0, "500\n", "")
    # Turns are missed only until the loop's function is first seen, one sample after it began to run.
    assert 280 <= loops["train", 9] <= 300, loops
    assert 195 <= loops["train", 12] <= 200, loops


def test_turns_are_in_order_and_evenly_spaced(watch: Any, monitoring_python: str) -> None:
    seen = watch(monitoring_python, TRAIN)
    symbols = seen.sink.tables.symbols
    times = [
        int(batch.start_ns[row])
        for batch in seen.sink.batches
        for row in range(len(batch))
        if batch.subkind[row] == Call.LOOP and symbols[int(batch.name[row])][0::4] == ("train", 9)
    ]
    gaps = sorted(after - before for before, after in pairwise(times))
    assert gaps[0] > 0
    assert 4_500_000 < gaps[len(gaps) // 2] < 20_000_000


def test_fast_loops_are_switched_off_and_named(watch: Any, monitoring_python: str) -> None:
    seen = watch(monitoring_python, TRAIN)
    notices = [text for stream in seen.streams for text in stream.notices]
    assert any(text.startswith("HOT loop at") and "program.py:20" in text for text in notices), notices
    assert not [text for text in seen.sink.warnings if "HOT" in text]
    assert seen.calls(Call.LOOP)["crowd", 20] < 3000
    assert seen.calls(Call.HOT)["crowd", 20] == 1


@pytest.mark.parametrize(("function", "turns"), [("train", 200), ("nobody", 0)])
def test_narrow_follows_only_what_was_named(watch: Any, monitoring_python: str, function: str, turns: int) -> None:
    request = CaptureRequest(source="probe", mode="narrow", names=[(function, "__main__", "", 0)])
    seen = watch(monitoring_python, TRAIN, request=request)
    assert turns - 5 <= seen.calls(Call.LOOP)["train", 12] <= turns


def test_tool_ids_that_are_taken_are_left_alone(watch: Any, monitoring_python: str) -> None:
    source = "import sys\nfor tool in (3, 4): sys.monitoring.use_tool_id(tool, 'mine')\n" + TRAIN
    seen = watch(monitoring_python, source)
    assert (seen.code, seen.out, seen.err) == (0, "500\n", "")
    assert not seen.calls(Call.LOOP)
    assert seen.states().total() > 0
