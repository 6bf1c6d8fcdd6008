"""The judge is judged: comparing a report with the truth gives the errors that were planted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from harness.truth import boundary_f1, compare, read_truth


def truth_file(tmp_path, steps):
    path = tmp_path / "truth.json"
    items = [{"kind": kind, "start_ns": a, "end_ns": b} for kind, a, b in steps]
    path.write_text(json.dumps({"steps": items, "final_loss": 0.5}))
    return read_truth(path)


def report(starts, step_s, rank=0, **more):
    mine = {
        "rank": rank, "found": True, "reason": "", "level": "step", "source": "x", "confidence": 0.9, "count": len(starts),
        "duration_s": {"median": step_s}, "locked_after": 4, **more,
    }  # fmt: skip
    items = [{"start_ns": int(s), "kind": "train"} for s in starts]
    return {"iterations": {**mine, "by_rank": [mine], "items": items}}


def test_a_perfect_report(tmp_path):
    truth = truth_file(tmp_path, [("train", 100 * i, 100 * i + 100) for i in range(20)])
    c = compare(report(np.arange(20) * 100, 100e-9), truth)
    assert (c.count_error, c.f1_10, c.f1_25) == (0.0, 1.0, 1.0)
    assert c.median_error == pytest.approx(0.0)


def test_one_constant_offset_is_allowed_and_two_are_not():
    truth = np.arange(40) * 1000
    assert boundary_f1(truth + 300, truth, 100.0) == 1.0
    mixed = np.where(np.arange(40) % 2, truth + 300, truth - 300)
    assert boundary_f1(np.sort(mixed), truth, 100.0) == pytest.approx(0.5)


def test_missed_and_extra_boundaries_cost():
    truth = np.arange(40) * 1000
    assert boundary_f1(truth[::2], truth, 100.0) == pytest.approx(2 * 20 / 60)
    doubled = np.sort(np.concatenate([truth, truth + 500]))
    assert boundary_f1(doubled, truth, 100.0) == pytest.approx(2 * 40 / 120)
    assert boundary_f1(np.zeros(0, np.int64), truth, 100.0) == 0.0


def test_validation_is_no_train_step(tmp_path):
    truth = truth_file(tmp_path, [("train", 0, 100), ("validation", 100, 900), ("train", 900, 1000)])
    assert len(truth.start_ns) == 2
    assert truth.median_s == pytest.approx(100e-9)


def test_half_the_count_is_an_error_of_a_half(tmp_path):
    truth = truth_file(tmp_path, [("train", 100 * i, 100 * i + 100) for i in range(20)])
    c = compare(report(np.arange(0, 20, 2) * 100, 200e-9), truth)
    assert c.count_error == pytest.approx(-0.5)
    assert c.median_error == pytest.approx(1.0)


def test_nothing_found_carries_the_reason(tmp_path):
    truth = truth_file(tmp_path, [("train", 0, 100)])
    c = compare(report([], 0.0, found=False, reason="4 steps seen"), truth)
    assert not c.found
    assert c.reason == "4 steps seen"
