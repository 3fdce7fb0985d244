"""Whatever a server does: exit 0 means that nothing is missing, 65 that it is in gaps, and the rest comes later.

Hypothesis draws a world, what the server makes of it, the client's settings, and perhaps the moment when the run dies.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from bad_habits import judge, judge_healed, machine, most_calls
from bad_habits.drawing import CALL_HABITS, Example, examples

# An example takes a server and one to five runs: to make a failing one smaller takes minutes, so it is done by hand.
PLAIN = settings(
    suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False
)


def judged(one: Example) -> None:
    """Run an example, and judge it and what later runs make of it."""
    with machine(one.world, *one.habits, source=one.source, **one.config) as mine:
        mine.settings["recover"] = {"mode": one.recover}
        mine.server.most_calls = most_calls(
            one.world, one.config["page_size"], one.config["concurrency"], faults=16, recovers=one.recover != "off"
        )
        report = mine.run_to_death(*one.killed) if one.killed else mine.run()
        if report is not None:
            judge(mine, report)
            if report.exit_code in (0, 65) and not mine.readable_missing():
                return
        mine.server.most_calls = mine.server.calls + 100_000
        judge_healed(mine)


@settings(PLAIN, max_examples=40)
@given(examples(habits=(), most=25))
def test_an_honest_server_of_any_nature_gives_everything_once_and_runs_may_die(one: Example) -> None:
    judged(one)


@settings(PLAIN, max_examples=30)
@given(examples(CALL_HABITS, most=20))
def test_calls_that_fail_in_any_way_at_any_moment_cost_no_row(one: Example) -> None:
    judged(one)


@pytest.mark.soak
@settings(PLAIN, max_examples=2_000)
@given(examples(CALL_HABITS))
def test_thousands_of_calls_that_fail_cost_no_row(one: Example) -> None:
    judged(one)
