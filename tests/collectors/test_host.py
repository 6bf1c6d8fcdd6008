"""Host, pressure, disks and network, on recorded trees and live."""

from __future__ import annotations

from pathlib import Path

import pytest
from collector_sink import DATA, KeepingSink, target
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core import names
from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect.disk import DiskCollector, parse_diskstats
from sofa_otel.exporters.collect.host import HostCollector, parse_cpus, parse_meminfo
from sofa_otel.exporters.collect.network import NetworkCollector, parse_interfaces, parse_tcp
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collect.psi import PsiCollector, parse_pressure

ALL = (HostCollector, PsiCollector, DiskCollector, NetworkCollector)


def read(collector: PolledCollector, tree: str, pid: int) -> KeepingSink:
    sink = KeepingSink()
    collector.start(target(pid, DATA / tree), sink)
    collector.poll(5)
    collector.stop()
    assert sink.warnings == []
    return sink


def test_host() -> None:
    sink = read(HostCollector(), "proc_v2", 4100)
    cpu = {"cpu__logical_number": "0"}
    assert sink.value(names.SYSTEM_CPU_TIME, cpu__mode="iowait", **cpu) == 0.25
    assert sink.value(names.SYSTEM_CPU_TIME, cpu__mode="interrupt", **cpu) == 0.07, "hard and soft interrupts are one mode"
    assert sink.value(names.SYSTEM_CPU_TIME, cpu__mode="steal", **cpu) == 0.04
    assert sink.value(names.SYSTEM_MEMORY_USAGE, system__memory__state="used") == 6_000_000 * 1024
    assert sink.value(names.SYSTEM_MEMORY_USAGE, system__memory__state="cached") == 5_500_000 * 1024
    assert sink.value(names.HOST_LOAD) == 1.25
    assert sink.value(names.HOST_THREADS, sofa__thread__state="blocked") == 1


def test_pressure() -> None:
    sink = read(PsiCollector(), "proc_v2", 4100)
    kinds = {"sofa__pressure__resource": "io"}
    assert sink.value(names.PRESSURE_TIME, sofa__pressure__kind="some", **kinds) == 0.75
    assert sink.value(names.PRESSURE_TIME, sofa__pressure__kind="full", **kinds) == 0.25


def test_disk_counts_sectors_of_512_bytes_and_leaves_partitions_out() -> None:
    sink = read(DiskCollector(), "proc_v2", 4100)
    device = {"system__device": "nvme0n1"}
    assert sink.value(names.SYSTEM_DISK_IO, disk__io__direction="read", **device) == 2048 * 512
    assert sink.value(names.SYSTEM_DISK_IO, disk__io__direction="write", **device) == 4096 * 512
    assert sink.value(names.SYSTEM_DISK_OPERATIONS, disk__io__direction="write", **device) == 200
    assert sink.value(names.SYSTEM_DISK_IO_TIME, **device) == pytest.approx(0.09)
    devices = {dict(attributes)["system.device"] for _, attributes in sink.last()}
    assert devices == {"nvme0n1", "sda"}, "no partition, no idle loop device; sda has the old eleven fields"


def test_disk_without_sysfs_knows_partitions_by_name() -> None:
    sink = read(DiskCollector(), "proc_container", 7)
    assert {dict(attributes)["system.device"] for _, attributes in sink.last()} == {"sda"}


def test_network_of_the_targets_namespace() -> None:
    sink = read(NetworkCollector(), "proc_v2", 4100)
    eth0 = {"network__interface__name": "eth0"}
    assert sink.value(names.SYSTEM_NETWORK_IO, network__io__direction="receive", **eth0) == 1000
    assert sink.value(names.SYSTEM_NETWORK_IO, network__io__direction="transmit", **eth0) == 2000
    assert sink.value(names.SYSTEM_NETWORK_DROPPED, network__io__direction="transmit", **eth0) == 4
    assert sink.value(names.TCP_RETRANSMITS) == 17
    assert sink.value(names.TCP_SEGMENTS, network__io__direction="transmit") == 67334


def test_network_without_tcp_counters() -> None:
    sink = read(NetworkCollector(), "proc_container", 7)
    assert sink.value(names.TCP_RETRANSMITS) is None
    assert sink.value(names.SYSTEM_NETWORK_IO, network__interface__name="eth0", network__io__direction="transmit") == 9


@pytest.mark.parametrize("make", ALL)
def test_live(make: type[PolledCollector]) -> None:
    collector = make()
    capability = collector.probe()
    if not capability.usable:
        pytest.skip(capability.missing)
    sink = KeepingSink()
    collector.start(target(0), sink)
    collector.poll(1)
    collector.request(CaptureRequest(source=collector.name, mode="off"))
    collector.poll(2)
    collector.request(CaptureRequest(source=collector.name, mode="wide"))
    collector.poll(3)
    collector.stop()
    assert sink.warnings == []
    if sink.points:
        assert [batch.header.seq for batch in sink.points] == [0, 1]
        assert collector.stats().events == sum(len(batch) for batch in sink.points)


@pytest.mark.parametrize("make", ALL)
def test_missing_files_are_named_and_never_raise(make: type[PolledCollector], tmp_path: Path) -> None:
    collector = make(root=str(tmp_path))
    capability = collector.probe()
    assert not capability.usable
    assert capability.missing
    assert capability.remedy
    sink = KeepingSink()
    collector.start(target(1, tmp_path), sink)
    collector.poll(1)
    collector.stop()
    assert sink.points == []


@given(st.binary(max_size=400))
def test_parsers_take_any_bytes(data: bytes) -> None:
    for parse in (parse_cpus, parse_meminfo, parse_pressure, parse_diskstats, parse_interfaces, parse_tcp):
        try:
            parse(data)
        except (ValueError, IndexError):
            pass  # the collector counts these as a lost reading
