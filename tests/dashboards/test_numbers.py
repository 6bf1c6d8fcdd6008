"""Numbers, labels and colours: units people read, text that cannot harm, one colour a word."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core import names
from sofa_otel.core.records import Gain
from sofa_otel.dashboards.report import view


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (4.2e-8, "42.0 ns"),
        (1.5e-6, "1.50 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (0.0152, "15.2 ms"),
        (0.152, "152 ms"),
        (0.9996, "1.00 s"),
        (1.5, "1.50 s"),
        (59.94, "59.9 s"),
        (99.96, "1 min 40 s"),
        (3599.7, "1 h 00 min"),
        (7265, "2 h 01 min"),
        (90_000, "1 d 01 h"),
        (float("nan"), "–"),
        (None, "–"),
        (-0.002, "−2.00 ms"),
    ],
)
def test_durations_have_the_unit_that_reads_best(value: float | None, text: str) -> None:
    assert view.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_500_000, "By", "1.5 MB"),
        (3.2e6, "By/s", "3.2 MB/s"),
        (999.7, "By", "1 kB"),
        (0.41, "1", "41 %"),
        (0.041, "1", "4.1 %"),
        (0.0004, "1", "<0.1 %"),
        (2, "cores", "2 cores"),
        (14, "{thread}", "14 threads"),
        (1, "{thread}", "1 thread"),
        (2500, "{context_switch}/s", "2,500 context switches/s"),
        (61.4, "Cel", "61.4 °C"),
        (250, "W", "250 W"),
        (0.062, "s", "62.0 ms"),
        (12, "", "12"),
        (float("inf"), "By", "–"),
    ],
)
def test_quantities_are_written_as_people_write_them(value: float, unit: str, text: str) -> None:
    assert view.quantity(value, unit) == text


def test_changes_carry_their_sign_and_small_ones_are_steady() -> None:
    assert [view.change(value) for value in (0.12, -0.031, 0.004, 40.0, float("nan"))] == [
        "+12 %",
        "−3.1 %",
        "steady",
        "41x",
        "–",
    ]


def test_gains_do_not_pretend_a_range() -> None:
    assert view.gain(Gain(1.2, 1.35, 1.5)) == "1.2x to 1.5x faster"
    assert view.gain(Gain(1.0, 1.0, 1.0)) == "1x faster"


def test_rates_of_cpu_time_are_cores_and_other_times_are_shares() -> None:
    assert view.lane_unit("process.cpu.time", "s") == "cores"
    assert view.lane_unit("sofa.pressure.time", "s") == "1"
    assert view.lane_unit("process.disk.io", "By") == "By/s"
    assert view.lane_unit("process.disk.io", "By/s") == "By/s"
    assert view.lane_unit("process.memory.usage", "By") == "By"


@pytest.mark.parametrize(
    ("table", "vocabulary"),
    [
        (view.PHASES, names.Phase),
        (view.RESOURCES, names.Resource),
        (view.ITERATION_KINDS, names.IterationKind),
        (view.SWARM_KINDS, names.SwarmKind),
        (view.SEVERITIES, names.Severity),
        (view.STATUSES, names.CorrelationStatus),
    ],
)
def test_every_word_of_a_vocabulary_has_a_look(table: dict[str, object], vocabulary: type) -> None:
    assert set(table) == set(vocabulary)  # type: ignore[call-overload]


@pytest.mark.parametrize("table", [view.PHASES, view.RESOURCES, view.ITERATION_KINDS, view.SWARM_KINDS])
def test_no_two_words_share_a_colour(table: dict[str, view.Look]) -> None:
    for ground in ("light", "dark"):
        colors = [getattr(look, ground) for look in table.values()]
        assert len(set(colors)) == len(colors)


@given(st.text())
def test_cleaned_text_controls_nothing(text: str) -> None:
    cleaned = view.clean(text)
    assert len(cleaned) == len(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or char in "\u202e\u2066\u200f\u2028" for char in cleaned)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-9, max_value=99.9))
def test_a_written_duration_is_the_duration_to_three_digits(value: float) -> None:
    figure, unit = view.seconds(value).split()
    back = float(figure.replace(",", "")) * {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert math.isclose(back, value, rel_tol=0.0051)


def test_figures_keep_their_units_on_one_line() -> None:
    assert view.glue("41 % of 152 ms, 3 steps, 2 sheep") == "41\u00a0% of 152\u00a0ms, 3 steps, 2 sheep"
