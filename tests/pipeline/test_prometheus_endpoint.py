"""``/metrics``: names by the Collector's translator, a private registry, HTTP as scrapers speak it."""

from __future__ import annotations

import gzip
import socket

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from telemetry_samples import request, samples

from sofa_otel.core import names
from sofa_otel.core.errors import WorkFailedError
from sofa_otel.core.names import Instrument, Metric
from sofa_otel.core.prometheus_names import label_name, label_value, metric_name
from sofa_otel.core.telemetry import Histogram, MetricPoint, Resource, Scope
from sofa_otel.exporters.emit.prometheus import PrometheusEndpoint

C, G, H = Instrument.COUNTER, Instrument.GAUGE, Instrument.HISTOGRAM


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (names.ITERATION_COUNT, "sofa_iteration_count_total"),
        (names.ITERATION_TIME, "sofa_iteration_time_seconds_total"),
        (names.ITERATION_LAST, "sofa_iteration_last_seconds"),
        (names.ITERATION_DURATION, "sofa_iteration_duration_seconds"),
        (names.SWARM_IO, "sofa_swarm_io_bytes_total"),
        (names.SWARM_INFO, "sofa_swarm_info"),
        (names.SWARM_CORRELATION, "sofa_swarm_resource_correlation_ratio"),
        (names.COLLECTOR_RATE, "sofa_collector_rate_per_second"),
        (names.GPU_UTILIZATION, "hw_gpu_utilization_ratio"),
        (names.HW_TEMPERATURE, "hw_temperature_celsius"),
        (names.HW_POWER, "hw_power_watts"),
        (names.HW_ENERGY, "hw_energy_joules_total"),
        (names.SYSTEM_DISK_IO_TIME, "system_disk_io_time_seconds_total"),
        # The rest: cases of otlptranslator's own tests, in our words.
        (Metric("system.io", "foo/bar", C, ""), "system_io_foo_per_bar_total"),
        (Metric("active.requests.ratio", "1", G, ""), "active_requests_ratio"),
        (Metric("ratio.of.things", "1", G, ""), "of_things_ratio"),
        (Metric("things", "1", C, ""), "things_total"),
        (Metric("total.things", "1", C, ""), "things_total"),
        (Metric("network.in", "By/s", G, ""), "network_in_bytes_per_second"),
        (Metric("network (transmitted)", "By/m", G, ""), "network_transmitted_bytes_per_minute"),
        (Metric("fan.bytes", "By", G, ""), "fan_bytes"),
        (Metric("a__b..c", "", G, ""), "a_b_c"),
        (Metric("2.things", "", G, ""), "_2_things"),
        (Metric("x", "{packets}/s", G, ""), "x_per_second"),
        (Metric("x", "%", G, ""), "x_percent"),
        (Metric("x", "ms/{call}", H, ""), "x_milliseconds"),
        (Metric("x", "weird unit!", G, ""), "x_weird_unit_"),
    ],
)
def test_names_follow_the_translator(metric: Metric, expected: str) -> None:
    assert metric_name(metric) == expected


def test_no_two_of_our_metrics_share_a_prometheus_name() -> None:
    translated = [metric_name(metric) for metric in names.ALL.values()]
    assert len(set(translated)) == len(translated)


def test_labels_follow_the_translator() -> None:
    assert label_name("sofa.job.id") == "sofa_job_id"
    assert label_name("0a") == "key_0a"
    assert label_name("_a") == "key_a"
    assert [label_value(v) for v in (True, 3, 0.5, 2.0, "x", ("a", 1))] == ["true", "3", "0.5", "2", "x", '["a",1]']


def points() -> list[MetricPoint]:
    who = ((names.JOB_ID, 'j"\\\n'), (names.RANK, 1))
    return [
        MetricPoint(names.SWARM_TIME, (*who, (names.SWARM_ID, "aa"), (names.SWARM_CONCURRENT, False)), 1.5, 5, 1),
        MetricPoint(names.ITERATION_DURATION, who, Histogram((0.1, 1.0), (1, 2, 3), 9.5), 5, 1),
        MetricPoint(names.GPU_UTILIZATION, (*who, ("hw.id", "GPU-1")), 0.25, 5),
    ]


@pytest.fixture
def endpoint():  # type: ignore[no-untyped-def]
    endpoint = PrometheusEndpoint(points, port=0, resource=Resource((("service.name", "t"),)), scope=Scope("sofa_otel", "1"))
    endpoint.start()
    yield endpoint
    endpoint.stop()
    endpoint.stop()


def test_scrape_has_every_value_in_both_formats(endpoint: PrometheusEndpoint) -> None:
    _, text = request(endpoint.port)
    response, openmetrics = request(endpoint.port, Accept="application/openmetrics-text; version=1.0.0")
    assert response.getheader("Content-Type", "").startswith("application/openmetrics-text")
    assert openmetrics.endswith(b"# EOF\n")
    plain = samples(parse_text(text.decode()))
    scope = (("otel_scope_name", "sofa_otel"), ("otel_scope_version", "1"))
    who = (("sofa_job_id", 'j"\\\n'), ("sofa_rank", "1"))
    assert (
        plain[
            "sofa_swarm_time_seconds_total", (*scope, who[0], who[1], ("sofa_swarm_concurrent", "false"), ("sofa_swarm_id", "aa"))
        ]
        == 1.5
    )
    assert plain["hw_gpu_utilization_ratio", (("hw_id", "GPU-1"), *scope, *who)] == 0.25
    assert plain["target_info", (("service_name", "t"),)] == 1
    buckets = {dict(labels)["le"]: v for (name, labels), v in plain.items() if name == "sofa_iteration_duration_seconds_bucket"}
    assert buckets == {"0.1": 1, "1.0": 3, "+Inf": 6}
    assert plain["sofa_iteration_duration_seconds_count", (*scope, *who)] == 6
    assert samples(parse_openmetrics(openmetrics.decode())) == plain


def test_head_gzip_and_other_paths(endpoint: PrometheusEndpoint) -> None:
    _, body = request(endpoint.port)
    head, nothing = request(endpoint.port, "HEAD")
    assert (head.status, nothing, int(head.getheader("Content-Length", "0"))) == (200, b"", len(body))
    packed, data = request(endpoint.port, Accept_Encoding="gzip")
    assert packed.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(data) == body
    assert request(endpoint.port, path="/etc/passwd")[0].status == 404
    assert request(endpoint.port, "POST")[0].status == 405
    assert request(endpoint.port, path="/")[0].status == 200


def test_the_default_registry_is_left_alone(endpoint: PrometheusEndpoint) -> None:
    request(endpoint.port)
    assert not [family for family in REGISTRY.collect() if family.name.startswith("sofa")]


def test_a_taken_port_gives_the_next_one_and_says_so() -> None:
    notes: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        endpoint = PrometheusEndpoint(points, port=port, note=notes.append)
        got = endpoint.start()
        try:
            assert got > port
            assert request(got)[0].status == 200
            assert str(port) in notes[0]
            assert str(got) in notes[0]
        finally:
            endpoint.stop()
        with pytest.raises(WorkFailedError, match=str(port)):
            PrometheusEndpoint(points, port=port, tries=1).start()


def test_clashing_names_do_not_break_the_scrape() -> None:
    clash = [MetricPoint(Metric("a.b", "", G, ""), (), 1.0, 1), MetricPoint(Metric("a_b", "", G, ""), (), 2.0, 1)]
    endpoint = PrometheusEndpoint(lambda: clash, port=0)
    endpoint.start()
    try:
        assert list(samples(parse_text(request(endpoint.port)[1].decode())).values()) == [1.0]
    finally:
        endpoint.stop()
