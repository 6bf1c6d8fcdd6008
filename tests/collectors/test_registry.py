"""Which collectors start: named ones must, automatic ones may, broken plug-ins are reported."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sofa_otel.core.errors import RequirementError, UsageError
from sofa_otel.exporters import registry
from sofa_otel.exporters.collect.proc import ProcCollector
from sofa_otel.exporters.collect.pyspy import PySpyCollector
from sofa_otel.exporters.collector import Capability


class Unusable(ProcCollector):
    name = "unusable"

    def probe(self) -> Capability:
        return Capability(usable=False, provides="x", missing="the moon is down", remedy="wait for the moon")


class Raising(ProcCollector):
    name = "raising"

    def probe(self) -> Capability:
        raise RuntimeError("boom")


def entries(**values: str) -> dict[str, EntryPoint]:
    return {name: EntryPoint(name, value, registry.GROUP) for name, value in values.items()}


GOOD = "sofa_otel.exporters.collect.proc:ProcCollector"
BAD = "sofa_otel.exporters.no_such_module:X"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    monkeypatch.setattr(ProcCollector, "Unusable", Unusable, raising=False)
    monkeypatch.setattr(ProcCollector, "Raising", Raising, raising=False)
    base = "sofa_otel.exporters.collect.proc:ProcCollector"
    return entries(proc=GOOD, host=f"{base}.Unusable", disk=BAD, psi=f"{base}.Unusable", network=f"{base}.Raising")


def test_auto_warns_with_the_remedy_and_goes_on(known: dict[str, EntryPoint]) -> None:
    collectors, warnings = registry.select("auto", "perf", known)
    assert [collector.name for collector in collectors] == ["proc"]
    text = "\n".join(warnings)
    assert "host: the moon is down" in text
    assert "wait for the moon" in text
    assert "no_such_module" in text
    assert "boom" in text
    assert "psi" not in text, "a kernel without PSI is no news"


@pytest.mark.parametrize(("name", "message"), [("host", "the moon is down"), ("disk", "no_such_module"), ("network", "boom")])
def test_a_named_collector_must_run(known: dict[str, EntryPoint], name: str, message: str) -> None:
    with pytest.raises(RequirementError, match=message) as caught:
        registry.select(f"auto,{name}", "perf", known)
    assert caught.value.exit_code == 3
    assert caught.value.remedy


def test_names_and_exclusions(known: dict[str, EntryPoint]) -> None:
    assert [c.name for c in registry.select("proc", "restricted", known).collectors] == ["proc"]
    collectors, warnings = registry.select("auto,-proc,-host,-disk,-network", "perf", known)
    assert collectors == []
    assert warnings == []


@pytest.mark.parametrize("collect", ["nonsense", "auto,-nonsense", "", ","])
def test_unknown_names_are_usage_errors(known: dict[str, EntryPoint], collect: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.select(collect, "perf", known)
    assert caught.value.exit_code == 2


def test_doctor_tells_about_every_collector(known: dict[str, EntryPoint]) -> None:
    table = dict(registry.doctor(known))
    assert set(table) == set(known)
    assert table["proc"].usable
    assert all(capability.remedy for capability in table.values() if not capability.usable)


def test_profiles_only_grow() -> None:
    assert set(registry.AUTO["restricted"]) < set(registry.AUTO["ptrace"]) < set(registry.AUTO["perf"])
    assert "perf_syscalls" not in registry.AUTO["restricted"]


def test_pyspy_learns_from_the_probe_which_processes_need_it() -> None:
    class Probe(ProcCollector):
        name = "probe"

        def processes(self) -> list[object]:
            return [type("Stream", (), {"pid": 41})]

    pyspy = PySpyCollector()
    registry._introduce([Probe(), pyspy])
    assert pyspy.has_probe(41)
    assert not pyspy.has_probe(42)
