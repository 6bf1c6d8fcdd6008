"""The demo, end to end: an unmodified training script, one command, and everything it promises."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from harness.jobs import EXAMPLES
from harness.process import Sofa
from harness.truth import compare, read_truth

from sofa_otel.core.names import FindingId, Phase, Resource
from sofa_otel.core.report import Report

pytestmark = pytest.mark.e2e


class Demo:
    """One watched run of the digits example and what it left."""

    def __init__(self, sofa, python: Path, folder: Path) -> None:
        self.run = folder / "run"
        script = [python, EXAMPLES / "train_digits.py", "--steps", "200"]
        self.done = sofa("run", "-o", self.run, "--port", "0", "--", *script, "--truth", folder / "truth.json")
        self.plain = sofa.plain(*script)
        self.truth = read_truth(folder / "truth.json")
        self.text = sofa("report", self.run, "--format", "json").stdout
        self.report = json.loads(self.text)


@pytest.fixture(scope="module")
def demo(demo_python, tmp_path_factory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    return Demo(Sofa(folder), demo_python, folder)


def test_output_and_exit_code_are_the_trainers(demo):
    assert demo.done.returncode == 0
    assert demo.done.stdout == demo.plain.stdout


def test_iterations_agree_with_the_scripts_own(demo):
    c = compare(demo.report, demo.truth)
    assert c.found, c.reason
    assert c.level == "step"
    assert c.confidence > 0.5
    assert abs(c.count_error) <= 0.02, c
    assert abs(c.median_error) <= 0.03, c
    assert c.locked_after <= 12, c
    assert c.f1_25 >= 0.9, c


def test_the_first_finding_is_that_it_waits_for_its_loader(demo):
    findings = demo.report["findings"]
    assert findings
    assert findings[0]["id"] == "loader-bound"
    assert findings[0]["evidence"]
    assert findings[0]["suggestion"]
    assert demo.report["breakdown"]["shares"]["loader"] >= 0.15


def test_report_is_the_documented_document(demo):
    report = msgspec.json.decode(demo.text, type=Report)
    assert report.schema == "sofa/report/v1"
    assert abs(sum(report.breakdown.shares.values()) - 1.0) < 1e-6
    assert set(demo.report["breakdown"]["exposed"]) == {r.value for r in Resource}
    assert {f["id"] for f in demo.report["findings"]} <= {f.value for f in FindingId}
    assert {s["phase"] for s in demo.report["swarms"]} <= {p.value for p in Phase}
    assert sum(s["share"] for s in demo.report["swarms"]) == pytest.approx(1.0, abs=0.02)
    starts = [i["start_ns"] for i in demo.report["iterations"]["items"]]
    assert starts == sorted(starts)
    assert demo.report["run"]["exit_code"] == 0


def test_report_satisfies_the_shipped_schema(demo):
    import jsonschema

    from sofa_otel.core import schema

    jsonschema.validate(demo.report, schema.load("sofa/report/v1"))


def test_summary_says_what_a_person_needs(demo):
    for words in ("loader-bound", "page", "report.html", "nothing"):
        assert words in demo.done.stderr
    assert (demo.run / "report.html").stat().st_size < 5_000_000


def test_other_formats(demo, sofa):
    text = sofa("report", demo.run)
    assert text.returncode == 0
    assert "loader-bound" in text.stdout
    trace = sofa.folder / "trace.pftrace"
    assert sofa("report", demo.run, "--format", "perfetto", "-o", trace).returncode == 0
    assert trace.stat().st_size > 1000
    assert sofa("report", demo.run, "--format", "pprof").returncode == 3


def test_swarms_name_the_trainers_functions(demo):
    members = {m["function"] for s in demo.report["swarms"] for m in s["members"]}
    assert any("MultilayerPerceptron" in m or "MLPClassifier" in m for m in members), members
