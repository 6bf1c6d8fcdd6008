"""The rule engine: right cause first, silence without figures."""

from __future__ import annotations

import pytest

from sofa_otel.apoml_controller.explain.features import Features
from sofa_otel.apoml_controller.explain.rules import RULES, rank_hypotheses
from sofa_otel.core.names import FindingId, Severity

HEALTHY = {
    "share_loader": 0.03, "share_disk": 0.0, "share_cpu_user": 0.9, "wait_gil": 0.01, "cpu_used": 1.0, "cpu_granted": 2.0,
    "num_cores": 2.0, "iteration_time_s": 0.05, "run_delay_share": 0.02, "runnable_per_cpu": 0.6, "runnable": 1.2, "threads": 4.0,
    "cpu_throttled_periods": 0.0, "cpu_throttled_share": 0.0,
}  # fmt: skip


def findings(**changes: float) -> list[FindingId]:
    features = Features({**HEALTHY, **changes})
    claims = [claim for rule in RULES if (claim := rule(features)) is not None]
    return [claim.id for claim in rank_hypotheses(claims)]


def test_a_healthy_job_has_no_finding() -> None:
    assert findings() == []


def test_nothing_measured_is_nothing_claimed() -> None:
    assert [rule(Features({})) for rule in RULES] == [None] * len(RULES)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"share_loader": 0.6}, FindingId.LOADER_BOUND),
        ({"cpu_throttled_periods": 0.9, "cpu_throttled_share": 0.5}, FindingId.CPU_QUOTA),
        ({"run_delay_share": 0.6, "runnable_per_cpu": 4.0, "runnable": 8.0}, FindingId.THREAD_OVERSUBSCRIPTION),
        ({"wait_gil": 0.5}, FindingId.GIL_BOUND),
        ({"share_disk": 0.5, "disk_read": 3e7}, FindingId.DISK_BOUND),
    ],
)
def test_each_cause_is_named(changes: dict[str, float], expected: FindingId) -> None:
    assert findings(**changes)[0] == expected


def test_a_cause_comes_before_the_symptom_it_explains() -> None:
    found = findings(
        cpu_throttled_periods=0.9, cpu_throttled_share=0.4, share_loader=0.7, run_delay_share=0.5, runnable_per_cpu=3.0
    )
    assert found[0] == FindingId.CPU_QUOTA
    assert FindingId.THREAD_OVERSUBSCRIPTION not in found


def test_claims_carry_figures_and_a_bounded_gain() -> None:
    claim = next(c for rule in RULES if (c := rule(Features({**HEALTHY, "share_loader": 0.6}))) is not None)
    finding = claim.finding(3)
    assert finding.rank == 3
    assert finding.severity == Severity.CRITICAL
    assert finding.value == pytest.approx(0.6)
    assert any("60 %" in line for line in finding.evidence)
    assert finding.suggestion
    assert finding.predicted_gain is not None
    assert 1 <= finding.predicted_gain.low < finding.predicted_gain.mid < finding.predicted_gain.high <= 1 / (1 - 0.6) + 1e-9


def test_the_suggestion_depends_on_whether_cpus_are_free() -> None:
    def suggestion(used: float) -> str:
        claim = next(c for r in RULES if (c := r(Features({**HEALTHY, "share_loader": 0.6, "cpu_used": used}))) is not None)
        return claim.suggestion

    assert "num_workers" in suggestion(0.8)
    assert "more workers alone will not help" in suggestion(1.95)
