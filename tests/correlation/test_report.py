"""The report holds the correlations, and is written even when they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import planted_graphs as planted
import pytest

from sofa_otel.core.batch import BatchHeader
from sofa_otel.core.errors import MissingExtraError
from sofa_otel.core.records import Detection
from sofa_otel.core.run import RunMeta, RunReader, RunWriter, open_run
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.processors.correlate import correlate
from sofa_otel.processors.summary import assemble


@pytest.fixture
def reader(tmp_path: Path) -> RunReader:
    case = planted.make(504, fine=False, snr=1.5, units=100)
    meta = RunMeta(command=["x"], started_ns=planted.START, ended_ns=case.iterations[-1].end_ns, job="j", rank=0)
    writer = RunWriter.create(tmp_path / "run", meta)
    writer.write([Detection(job="j", rank=0, found=True, reason=""), *case.iterations, *case.windows])
    table = SeriesTable()
    for one in case.series:
        which = np.full(len(one.time_ns), table.intern_series(one.series), np.uint32)
        writer.write_resources(ResourceBatch(BatchHeader("j", 0, "h", "test"), table, one.time_ns, which, one.value))
    writer.commit()
    writer.close()
    return open_run(tmp_path / "run")


def test_report_holds_correlations(reader: RunReader) -> None:
    report = assemble.build_report([reader])
    assert report.run.warnings == []
    assert len(report.correlations) >= 2
    order = [(item.status.value != "associated", -abs(item.strength)) for item in report.correlations]
    assert order == sorted(order)


def test_failure_is_a_warning(reader: RunReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(assemble, "correlate", fail)
    report = assemble.build_report([reader])
    assert report.correlations == []
    assert report.run.warnings == ["correlations left out: ZeroDivisionError: planted"]


def test_without_scipy_the_extra_is_named(reader: RunReader, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "scipy" or name.startswith("scipy.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    case = planted.make(1, fine=True, units=80)
    with pytest.raises(MissingExtraError, match=r"\[run\]"):
        correlate(case.iterations, case.windows, case.series)
    report = assemble.build_report([reader])
    assert report.correlations == []
    assert "sofa-otel[run]" in report.run.warnings[0]
