"""The terminal summary: what was found comes first, no line is too long, and it needs neither colour nor Unicode."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import synthetic_reports as synthetic
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sofa_otel.core.report import Report
from sofa_otel.dashboards.report.terminal import Style, cells, cut, wrap
from sofa_otel.dashboards.report.text import render_text

KINDS: list[Callable[[], Report]] = [
    synthetic.rich, lambda: synthetic.rich(ranks=2), synthetic.quiet, synthetic.empty, synthetic.hostile,
    lambda: synthetic.rich(count=300, ranks=64, swarms=64),
]  # fmt: skip
SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(make: Callable[[], Report], width: int) -> None:
    for line in render_text(make(), width=width).splitlines():
        assert cells(line) <= width, line


@pytest.mark.parametrize("make", KINDS)
def test_colour_changes_nothing_but_colour(make: Callable[[], Report]) -> None:
    report = make()
    colored = render_text(report, width=90, color=True)
    assert "\x1b[" in colored
    plain = "\n".join(line.rstrip() for line in SGR.sub("", colored).splitlines())
    assert plain == render_text(report, width=90).rstrip("\n")


@pytest.mark.parametrize("make", KINDS)
def test_ascii_is_ascii_and_fits(make: Callable[[], Report]) -> None:
    text = render_text(make(), width=80, ascii_only=True)
    assert text.isascii()
    assert all(len(line) <= 80 for line in text.splitlines())


def test_findings_come_first_in_their_order_with_evidence_and_advice() -> None:
    report = synthetic.rich()
    text = render_text(report, width=120)
    places = [text.index(finding.title) for finding in report.findings]
    assert places == sorted(places)
    assert places[-1] < text.index("Iterations")
    for finding in report.findings:
        assert finding.suggestion in text
        for sentence in finding.evidence:
            assert sentence in text
    assert "1.3x to 1.6x faster" in text


def test_figures_of_the_iterations_are_said() -> None:
    text = render_text(synthetic.rich(), width=120)
    duration = synthetic.rich().iterations.duration_s
    assert duration is not None
    for figure in ("240 steps", "152 ms", "p10–p90 146 ms – 157 ms", "warm-up: 3", "unusually slow: 4", "97 % sure"):
        assert figure in text


def test_shares_are_ranked() -> None:
    text = render_text(synthetic.rich(), width=80)
    assert text.index("data loader  ") < text.index("CPU, user") < text.index("locks and sync") < text.index("  disk")


def test_no_finding_is_said_in_words() -> None:
    assert "no finding" in render_text(synthetic.quiet())
    empty = render_text(synthetic.empty())
    assert "no finding" in empty
    assert "0 steps were seen: run 30 s" in empty


def test_ranks_and_stragglers_are_named_only_where_there_are_several() -> None:
    assert "held the job up" in render_text(synthetic.rich(ranks=2))
    assert "rank 1" not in render_text(synthetic.rich())


def test_what_left_the_machine_is_said() -> None:
    report = synthetic.rich()
    assert "Nothing left this machine." in render_text(report)
    told = replace(report, run=replace(report.run, endpoints=["http://10.0.0.5:4318"]))
    assert "http://10.0.0.5:4318" in render_text(told)


def test_hostile_text_cannot_drive_the_terminal() -> None:
    text = render_text(synthetic.hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))), st.integers(12, 60))
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    lines = wrap(text, width, "> ", "  ")
    assert "".join("".join(line[2:] for line in lines).split()) == "".join(text.split())
    assert all(cells(line) <= width for line in lines)


@given(st.text(alphabet="aé漢 🙂", max_size=40), st.integers(1, 20))
def test_cut_text_fits(text: str, width: int) -> None:
    assert cells(cut(text, width)) <= width


@given(st.floats(0, 1), st.integers(1, 60))
def test_bars_are_as_wide_as_told(share: float, width: int) -> None:
    for style in (Style(), Style(ascii=True)):
        bar = style.bar(share, width, "#3a78c9")
        assert len(bar) == width
        assert (bar.strip() != "") == (share > 0)
