"""Control groups: what was granted is found on version 1, 2, hybrid and inside containers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from collector_sink import DATA, KeepingSink, target
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core import names
from sofa_otel.exporters.collect.cgroup import CgroupCollector, parse_cpu_max, parse_flat
from sofa_otel.exporters.collect.cgroup_layout import find_layout, parse_groups, parse_mounts
from sofa_otel.exporters.collect.kernel_file import count_cpus


def read(tree: str | Path, pid: int, **more: str) -> KeepingSink:
    sink = KeepingSink()
    collector = CgroupCollector()
    collector.start(target(pid, DATA / tree, **more), sink)
    collector.poll(1)
    collector.stop()
    assert sink.warnings == []
    return sink


def test_v2_takes_the_least_of_all_ancestors_and_counts_throttling_where_the_quota_is() -> None:
    sink = read("proc_v2", 4100)
    assert sink.value(names.CGROUP_CPU_LIMIT) == 1.5, "the pod's quota is below the container's, the cpuset's and the affinity"
    assert sink.value(names.CGROUP_CPU_THROTTLED) == pytest.approx(2.5)
    assert sink.value(names.CGROUP_CPU_PERIODS, sofa__cgroup__period__state="throttled") == 100
    assert sink.value(names.CGROUP_CPU_PERIODS, sofa__cgroup__period__state="elapsed") == 400
    assert sink.value(names.CGROUP_CPU_TIME, cpu__mode="user") == 6.0, "time is the own group's, not the pod's"
    assert sink.value(names.CGROUP_MEMORY_USAGE) == 536870912
    assert sink.value(names.CGROUP_MEMORY_LIMIT) == 1 << 30, "only the pod limits memory"
    assert sink.value(names.CGROUP_OOM_KILLS) == 2


def test_v1_reads_quota_cpuacct_and_nanoseconds() -> None:
    sink = read("proc_v1", 4100)
    assert sink.value(names.CGROUP_CPU_LIMIT) == 0.5
    assert sink.value(names.CGROUP_CPU_THROTTLED) == pytest.approx(42.5)
    assert sink.value(names.CGROUP_CPU_TIME, cpu__mode="user") == 25.0
    assert sink.value(names.CGROUP_MEMORY_LIMIT) == 2 << 30
    assert sink.value(names.CGROUP_OOM_KILLS) == 1


def test_hybrid_prefers_v1_controllers_and_reports_no_limit_as_no_point() -> None:
    sink = read("proc_hybrid", 4100)
    assert sink.value(names.CGROUP_CPU_LIMIT) == 2, "the affinity is below the cpuset"
    assert sink.value(names.CGROUP_MEMORY_LIMIT) is None
    assert sink.value(names.CGROUP_MEMORY_USAGE) == 650000000
    assert sink.value(names.CGROUP_CPU_TIME, cpu__mode="system") == 118.98


def test_container_with_its_own_namespace() -> None:
    sink = read("proc_container", 7)
    assert sink.value(names.CGROUP_CPU_LIMIT) == 4
    assert sink.value(names.CGROUP_MEMORY_LIMIT) == 8 << 30
    assert sink.value(names.CGROUP_CPU_THROTTLED) == pytest.approx(0.25)


def test_container_whose_mount_starts_at_its_group() -> None:
    sink = read("proc_container_v1", 7)
    assert sink.value(names.CGROUP_CPU_LIMIT) == 3
    assert sink.value(names.CGROUP_MEMORY_LIMIT) == 4 << 30


def test_a_named_group_replaces_the_own() -> None:
    sink = read("proc_v2", 4100, cgroup="/kubepods.slice/kubepods-burstable.slice/pod1.slice")
    assert sink.value(names.CGROUP_CPU_TIME, cpu__mode="user") == 8.0


def test_a_limit_that_changes_while_watched_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(DATA / "proc_container", root)
    sink = KeepingSink()
    collector = CgroupCollector()
    collector.start(target(7, root), sink)
    collector.poll(1)
    (root / "sys/fs/cgroup/cpu.max").write_text("100000 100000\n")
    for tick in range(2, 8):
        collector.poll(tick)
    assert sink.value(names.CGROUP_CPU_LIMIT) == 1
    assert [batch.header.seq for batch in sink.points] == list(range(7))
    assert collector.stats().dropped == 0


def test_without_any_hierarchy_it_says_what_is_missing(tmp_path: Path) -> None:
    capability = CgroupCollector(root=str(tmp_path)).probe()
    assert not capability.usable
    assert "hierarchy" in capability.missing
    assert capability.remedy


def test_live() -> None:
    collector = CgroupCollector()
    if not collector.probe().usable:
        pytest.skip("no control groups on this machine")
    sink = KeepingSink()
    collector.start(target(0), sink)
    collector.poll(1)
    limit = sink.value(names.CGROUP_CPU_LIMIT)
    assert limit is not None
    assert 0 < limit < 10_000
    collector.stop()
    collector.stop()


@given(st.sets(st.integers(0, 300), min_size=1))
def test_cpu_lists_count_what_they_name(cpus: set[int]) -> None:
    parts: list[str] = []
    for cpu in sorted(cpus):
        if cpu - 1 in cpus:
            parts[-1] = parts[-1].split("-")[0] + f"-{cpu}"
        else:
            parts.append(str(cpu))
    assert count_cpus(",".join(parts) + "\n") == len(cpus)


@given(st.binary(max_size=200))
def test_parsers_take_any_bytes(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    parse_flat(data)
    parse_mounts(text)
    parse_groups(text)
    count_cpus(text)
    assert parse_cpu_max(text) > 0 or math.isinf(parse_cpu_max(text)) or text.strip().startswith("0")


def test_deleted_group_keeps_its_ancestors(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(DATA / "proc_container", root)
    (root / "proc/7/cgroup").write_text("0::/gone (deleted)\n")
    _, directories = find_layout(str(root), 7).of("cpu")
    assert directories == [str(root / "sys/fs/cgroup")]
