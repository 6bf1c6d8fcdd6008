"""Totals: the counters do not depend on the order of records, are bounded, and survive a restart."""

from __future__ import annotations

import random

import pytest
from telemetry_samples import iteration, some_records, window

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader
from sofa_otel.core.errors import InputError
from sofa_otel.core.names import FindingId, SwarmKind
from sofa_otel.core.records import SwarmInfo
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.telemetry import Histogram
from sofa_otel.core.totals import OTHER, Totals


def values(totals: Totals, metric: names.Metric) -> dict[tuple[tuple[str, object], ...], object]:
    return {point.attributes: point.value for point in totals.points(5) if point.metric == metric}


def test_values_are_exact_and_carry_job_and_rank() -> None:
    totals = Totals(start_ns=1)
    totals.add(some_records())
    who = ((names.JOB_ID, "j"), (names.RANK, 0))
    assert values(totals, names.ITERATION_COUNT) == {
        (*who, (names.ITERATION_KIND, "warmup")): 1.0,
        (*who, (names.ITERATION_KIND, "train")): 19.0,
    }
    assert values(totals, names.ITERATION_TIME)[(*who, (names.ITERATION_KIND, "train"))] == (1_900_000_000 + 190) / 1e9
    assert values(totals, names.ITERATION_LAST) == {who: (10**18 + 19 * 10**9 + 100_000_019) / 1e9}
    one = ((names.SWARM_ID, f"{1:016x}"), (names.SWARM_CONCURRENT, True))
    assert values(totals, names.SWARM_TIME)[who + one] == 50 / 1e9
    histogram = values(totals, names.ITERATION_DURATION)[who]
    assert isinstance(histogram, Histogram)
    assert histogram.count == 19, "warm-up is not part of the distribution"
    assert histogram.counts[names.ITERATION_DURATION_BOUNDS.index(0.15)] == 19
    assert (histogram.min, histogram.max) == (0.100000001, 0.100000019)
    assert all(point.attributes[:2] == who for point in totals.points())


def test_bucket_bounds_are_inclusive_above() -> None:
    totals = Totals(start_ns=1)
    totals.add([iteration(0, 100_000_000)])
    (histogram,) = values(totals, names.ITERATION_DURATION).values()
    assert isinstance(histogram, Histogram)
    assert histogram.counts[names.ITERATION_DURATION_BOUNDS.index(0.1)] == 1


def test_order_of_records_does_not_matter_below_the_swarm_limit() -> None:
    records = some_records()
    one, other = Totals(start_ns=1), Totals(start_ns=1)
    one.add(records)
    random.Random(7).shuffle(records)
    for record in records:
        other.add([record])
    key = lambda p: (p.metric.name, p.attributes)  # noqa: E731
    assert sorted(one.points(5), key=key) == sorted(other.points(5), key=key)


def test_more_than_64_swarms_share_one_series_and_lose_nothing() -> None:
    totals = Totals(start_ns=1)
    totals.add([window(f"{i:016x}", 1_000_000_000, rank=i % 2) for i in range(100)])
    times = values(totals, names.SWARM_TIME)
    swarms = {dict(attributes)[names.SWARM_ID] for attributes in times}
    assert len(swarms) == 65
    assert OTHER in swarms
    assert sum(times.values()) == pytest.approx(100)  # type: ignore[arg-type]


def test_caption_lives_in_info_and_nowhere_else() -> None:
    totals = Totals(start_ns=1)
    totals.add([window("aa", 1), SwarmInfo(job="j", rank=0, swarm="aa", caption="matmul", kind=SwarmKind.COMPUTE)])
    with_caption = {p.metric.name for p in totals.points() if names.SWARM_CAPTION in dict(p.attributes)}
    assert with_caption == {names.SWARM_INFO.name}
    (attributes,) = values(totals, names.SWARM_INFO)
    assert dict(attributes)[names.SWARM_CAPTION] == "matmul"


def test_infos_of_swarms_that_never_get_time_are_bounded() -> None:
    totals = Totals(start_ns=1)
    kept = SwarmInfo(job="j", rank=0, swarm="kept", caption="kept", kind=SwarmKind.INPUT)
    totals.add([window("kept", 1), kept])
    totals.add(SwarmInfo(job="j", rank=0, swarm=str(i), caption="x", kind=SwarmKind.OTHER) for i in range(10_000))
    assert len(totals.to_bytes()) < 40_000
    assert "kept" in {dict(a)[names.SWARM_CAPTION] for a in values(totals, names.SWARM_INFO)}


def test_counters_survive_a_restart() -> None:
    before = Totals(start_ns=3)
    before.add(some_records())
    after = Totals.from_bytes(before.to_bytes())
    assert after.points(9) == before.points(9)
    before.add(some_records())
    after.add(some_records())
    assert after.points(9) == before.points(9)
    assert {p.start_ns for p in after.points() if p.metric == names.SWARM_TIME} == {3}


def test_golden_state_of_version_1_is_still_read() -> None:
    golden = (
        b'{"version":1,"start_ns":3,"ranks":[{"job":"j","rank":2,"count":{"train":1},"time_ns":{"train":200000000},"phase_ns":{},'
        b'"bottleneck_ns":{"loader":5},"last_ns":7,"buckets":[0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0],"duration_ns":200000000,'
        b'"shortest_ns":200000000,"longest_ns":200000000,"swarms":{"aa":{"time_ns":[1,2],"calls":[3,4],"bytes":[5,6]}},'
        b'"infos":{"aa":["matmul","compute","model_forward"]},"findings":{"loader-bound":true},"delay_s":0.0,"correlations":{}}],'
        b'"swarms":{"j":["aa"]}}'
    )
    totals = Totals.from_bytes(golden)
    assert totals.to_bytes() == golden
    assert [v for a, v in values(totals, names.SWARM_TIME).items() if (names.SWARM_CONCURRENT, True) in a] == [2e-9]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"version":1}',
        b'{"version":1,"start_ns":0,"ranks":[{"job":"j","rank":0,"buckets":[1]}],"swarms":{}}',
        b'{"version":99,"start_ns":0,"ranks":[],"swarms":{}}',
    ],
)
def test_damaged_or_later_state_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        Totals.from_bytes(data)
    assert caught.value.remedy


def test_findings_go_to_zero_when_they_no_longer_hold() -> None:
    totals = Totals(start_ns=1)
    totals.set_findings("j", 0, [FindingId.LOADER_BOUND, FindingId.CPU_QUOTA])
    totals.set_findings("j", 0, [FindingId.CPU_QUOTA])
    found = {dict(a)[names.FINDING_ID]: v for a, v in values(totals, names.FINDING_ACTIVE).items()}
    assert found == {"loader-bound": 0.0, "cpu-quota": 1.0}


def test_resources_keep_the_newest_value_whatever_the_order() -> None:
    table = SeriesTable()
    user = table.intern("process.cpu.time", "s", "counter", cpu__mode="user")
    odd = table.intern("plugin.thing", "{x}", "gauge")
    totals = Totals(start_ns=1)
    totals.add_resources(ResourceBatch(BatchHeader("j", 3, "h", "proc"), table, [20, 10, 15], [user, user, odd], [2.0, 1.0, 9.0]))
    who = ((names.JOB_ID, "j"), (names.RANK, 3))
    points = {(p.metric.name, p.attributes): (p.value, p.time_ns, p.start_ns) for p in totals.points()}
    assert points == {
        ("process.cpu.time", (*who, ("cpu.mode", "user"))): (2.0, 20, 0),
        ("plugin.thing", who): (9.0, 15, 0),
    }
