"""Settings come from where the user put them, later sources win, and nothing is silently ignored."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sofa_otel.core.errors import RequirementError, SofaError, UsageError
from sofa_otel.core.settings import KNOBS, Settings, load_settings, resolve_settings


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults() -> None:
    found = resolve_settings()
    assert found.settings == Settings()
    assert set(found.sources.values()) == {"default"}
    assert {knob.field for knob in KNOBS} == set(Settings.__struct_fields__)


def test_later_sources_win_and_each_value_says_where_it_is_from(tmp_path: Path) -> None:
    file = write(
        tmp_path / "agent.toml",
        '# comment\ncollect = ["probe", "proc"]\nbudget = 0.02\nquiet = true\n\n'
        '[metrics]\nlisten = "0.0.0.0:7000"\n\n[sample]\nratio = 0.5\n',
    )
    environ = {
        "SOFA_BUDGET": "0.03",
        "SOFA_PROBE_HOOKS": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "SOFA_LATENESS": "4",
    }
    found = resolve_settings(file, environ, {"budget": 0.04, "port": None, "output": Path("out"), "hooks": "on"})
    assert found.settings == Settings(
        collect="probe,proc", budget=0.04, quiet=True, listen="0.0.0.0", port=7000, sample_ratio=0.5, otlp="http://c:4318",
        lateness_s=4.0, output="out",
    )  # fmt: skip
    assert found.sources["collect"] == f"{file}:2"
    assert found.sources["port"] == f"{file}:7"
    assert found.sources["sample_ratio"] == f"{file}:10"
    assert found.sources["lateness_s"] == "SOFA_LATENESS"
    assert found.sources["otlp"] == "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert found.sources["budget"] == "--budget"
    assert found.sources["trigger"] == "default"


def test_ours_before_the_general_variable_and_a_disabled_sdk_sends_nothing() -> None:
    general = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://general"}
    assert load_settings(environ=general | {"SOFA_OTLP": "http://ours"}).otlp == "http://ours"
    assert load_settings(environ=general | {"OTEL_SDK_DISABLED": "true"}).otlp == ""
    assert load_settings(environ={"SOFA_OTLP": "http://ours", "OTEL_SDK_DISABLED": "true"}).otlp == "http://ours"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('colect = "auto"', r"agent\.toml:1: there is no setting 'colect'\n.*'collect'"),
        ("[metrics]\nlisten = '127.0.0.1'\n\nprot = 1", r"agent\.toml:4: .*'metrics\.prot'\n.*'metrics\.port'"),
        ("[sampel]\nratio = 1", r"agent\.toml:2: .*\n.*'sample\.ratio'"),
        ("port = 70000", r"agent\.toml:1: 70000 is not allowed for port"),
        ("x = 1\nport = 'a'", r"agent\.toml:1: there is no setting 'x'"),
        ("port = 'a'", r"agent\.toml:1: 'a' is not allowed for port"),
        ("quiet = 1", r"agent\.toml:1: .*\n.*on or off"),
        ("hooks = 'perhaps'", r"agent\.toml:1: 'perhaps'"),
        ("profile = 'root'", r"agent\.toml:1: .*\n.*one of restricted, ptrace, perf"),
        ("port = ", r"agent\.toml:1: not valid TOML"),
        ("a = 1\n[[", r"agent\.toml:2: not valid TOML"),
        ("trigger = 'log:['", r"agent\.toml:1: '\[' is not a regular expression"),
        ("trigger = 'always'", r"agent\.toml:1: .*\n.*log:REGEX or anomaly"),
        ("redact = ['(']", r"agent\.toml:1: '\('"),
        ("listen = 'a:b:c'", r"agent\.toml:1: 'a:b:c' is not an address"),
        ("budget = 0", r"agent\.toml:1: 0"),
        ("sample = 3", r"agent\.toml:1: there is no setting 'sample'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_settings(write(tmp_path / "agent.toml", text))


def test_wrong_variables_and_flags_are_named() -> None:
    with pytest.raises(UsageError, match="SOFA_PORT: 'abc'"):
        load_settings(environ={"SOFA_PORT": "abc"})
    with pytest.raises(UsageError, match="--budget: 7"):
        load_settings(overrides={"budget": 7})
    with pytest.raises(UsageError, match=r"no setting 'potr'\n.*'port'"):
        load_settings(overrides={"potr": 7})
    with pytest.raises(UsageError, match="no setting"):
        Settings().replace(nothing=1)
    with pytest.raises(UsageError, match="collect"):
        Settings().replace(collect="")
    assert Settings().replace(collect="auto,-probe").collect == "auto,-probe"
    assert resolve_settings(environ={"SOFA_COLECT": "x", "SOFA_ROOT": "/opt", "SOFA_JOB_ID": "j"}).notes == [
        "SOFA_COLECT is not a setting: did you mean SOFA_COLLECT?"
    ]


@pytest.mark.parametrize(
    ("text", "listen", "port"),
    [
        ("[::1]:7", "::1", 7),
        ("::1", "::1", 9464),
        (":7", "127.0.0.1", 7),
        ("localhost", "localhost", 9464),
        ("0.0.0.0:0", "0.0.0.0", 0),
    ],
)
def test_addresses(text: str, listen: str, port: int) -> None:
    found = load_settings(environ={"SOFA_METRICS_LISTEN": text})
    assert (found.listen, found.port) == (listen, port)


def test_a_port_given_beside_an_address_wins() -> None:
    found = load_settings(environ={"SOFA_METRICS_LISTEN": "0.0.0.0:1", "SOFA_PORT": "2"})
    assert (found.listen, found.port) == ("0.0.0.0", 2)
    found = load_settings(environ={"SOFA_PORT": "2"}, overrides={"listen": "0.0.0.0:1"})
    assert (found.listen, found.port) == ("0.0.0.0", 1)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing"):
        load_settings(tmp_path / "nothing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary\.toml, byte 0"):
        load_settings(tmp_path / "binary.toml")


def test_yaml_needs_a_reader_and_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "agent.yaml", "metrics:\n  port: 7\n")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "sofa_otel.core.settings_file.find_spec", lambda name: None if name.split(".")[0] in ("yaml", "ruamel") else find(name)
    )
    with pytest.raises(RequirementError, match="pyyaml"):
        load_settings(file)


def test_yaml_is_read_where_a_reader_is(tmp_path: Path) -> None:
    if importlib.util.find_spec("yaml") is None and importlib.util.find_spec("ruamel") is None:
        pytest.skip("no YAML reader is installed: pip install pyyaml")
    assert load_settings(write(tmp_path / "a.yml", "metrics:\n  port: 7\n")).port == 7
    with pytest.raises(UsageError, match=r"a\.yml:2"):
        load_settings(write(tmp_path / "a.yml", "metrics:\n  prot: 7\n"))
    with pytest.raises(UsageError, match=r"a\.yml:\d+: not valid YAML"):
        load_settings(write(tmp_path / "a.yml", "a: [\n"))
    with pytest.raises(UsageError, match="no keys"):
        load_settings(write(tmp_path / "a.yml", "- 1\n"))


@given(st.dictionaries(st.sampled_from([v for k in KNOBS for v in k.variables]), st.text(max_size=12)))
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_environment_gives_settings_or_a_typed_error(environ: dict[str, str]) -> None:
    try:
        said = ""
        found: Any = load_settings(environ=environ)
        assert 0 <= found.port <= 65535
    except SofaError as error:
        said = str(error)
    assert not said or any(name in said for name in environ)
