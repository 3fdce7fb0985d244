from __future__ import annotations

import pytest

from cfaudit_export.core.model import Lateness
from cfaudit_export.metrics import METRICS
from cfaudit_export.metrics.collect import quantile


@pytest.mark.parametrize(
    ("late", "shares"),
    [
        (Lateness(), {0.5: 0.0, 1.0: 0.0}),
        (Lateness(1, 42.0, {1: 1}), {0.5: 42.0, 0.99: 42.0, 1.0: 42.0}),
        (Lateness(4, 50_000.0, {1: 2, 5: 1, -1: 1}), {0.5: 60.0, 0.75: 300.0, 0.9: 50_000.0, 1.0: 50_000.0}),
        (Lateness(10, 200.0, {5: 10}), {0.5: 200.0}),
    ],
)
def test_a_quantile_is_the_upper_end_of_its_step_or_the_longest_delay(
    late: Lateness, shares: dict[float, float]
) -> None:
    assert {share: quantile(late, share) for share in shares} == shares


def test_names_are_told_apart_and_only_bounded_labels_are_used() -> None:
    assert (
        len({metric.prometheus_name for metric in METRICS}) == len({metric.name for metric in METRICS}) == len(METRICS)
    )
    assert {label for metric in METRICS for label in metric.labels} == {
        "export",
        "account",
        "source",
        "stream",
        "sink",
        "exit_code",
    }
