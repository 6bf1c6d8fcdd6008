"""The shipped JSON Schemas are those of the types, and real documents satisfy them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from sofa_otel.core import schema
from sofa_otel.core.errors import UsageError
from sofa_otel.core.names import Phase, Resource, SwarmKind
from sofa_otel.core.records import AnyRecord, Detection, Iteration, LoopLevel, PhaseBreakdown, SwarmInfo, SwarmMember, SwarmWindow
from sofa_otel.core.run import RunMeta, RunWriter, open_run
from sofa_otel.core.settings import Settings

FOLDER = Path(schema.__file__).parent / "schemas"


@pytest.mark.parametrize("document", schema.DOCUMENTS)
def test_the_shipped_schema_is_the_types(document: str) -> None:
    assert (FOLDER / schema.file_name(document)).read_bytes() == schema.render(document), "run: python -m sofa_otel.core.schema"
    jsonschema.Draft202012Validator.check_schema(schema.load(document))


def test_no_stray_schemas() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {schema.file_name(document) for document in schema.DOCUMENTS}
    with pytest.raises(UsageError, match="no schema"):
        schema.load("sofa/nothing/v1")


def check(document: str, text: bytes) -> None:
    jsonschema.validate(json.loads(text), schema.load(document))


RECORDS: list[AnyRecord] = [
    Iteration(job="j", rank=0, level="step", index=0, start_ns=1, end_ns=5, confidence=0.9, source="s"),
    Detection(job="j", rank=0, found=True, reason="", level="step", levels=[LoopLevel("step", 1, 0.1)]),
    SwarmInfo(job="j", rank=0, swarm="0" * 16, caption="c", kind=SwarmKind.COMPUTE, members=[SwarmMember("f", "m", 1.0)]),
    SwarmWindow(job="j", rank=0, iteration=0, swarm="0" * 16, time_ns=4),
    PhaseBreakdown(
        job="j", rank=0, iteration=0, start_ns=1, end_ns=5, phase_ns={Phase.UNKNOWN: 4}, exposed_ns={Resource.CPU_USER: 4}
    ),
]


def test_a_real_run_satisfies_the_schemas(tmp_path: Path) -> None:
    meta = RunMeta(command=["a"], started_ns=1, job="j", rank=0, facts={"x": 1.5, "y": "z"})
    with RunWriter.create(tmp_path / "run", meta) as writer:
        check("sofa/run/v1", (tmp_path / "run" / "run.json").read_bytes())
        writer.write(RECORDS)
    check("sofa/run/v1", (tmp_path / "run" / "run.json").read_bytes())
    check("sofa/records/v1", msgspec.json.encode(open_run(tmp_path / "run").all_records()))
    check("sofa/settings/v1", msgspec.json.encode(Settings()))
    with pytest.raises(jsonschema.ValidationError):
        check("sofa/run/v1", b'{"job": 3}')


def test_a_real_report_satisfies_its_schema(tmp_path: Path) -> None:
    assemble = pytest.importorskip("sofa_otel.processors.summary.assemble", reason="the report is assembled in another room")
    with RunWriter.create(tmp_path / "run", RunMeta(command=["a"], started_ns=1, job="j", rank=0)) as writer:
        writer.write(RECORDS)
    report = assemble.build_report([open_run(tmp_path / "run")])
    check("sofa/report/v1", msgspec.json.encode(report))
