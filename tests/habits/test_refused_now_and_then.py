"""A server that refuses calls, now and then and whatever they ask: no block, and no reason to pause for minutes."""

from __future__ import annotations

from random import Random

import pytest

from bad_habits import Habit, judge, machine, network, world
from bad_habits.answers import Answer
from bad_habits.log import Ask, Page
from bad_habits.server import Moment
from bad_habits.tools import UpstreamError
from cfaudit_export import ExitCode

TRUTH = world(range(0, 30_000, 100))


def refuses(share: float, seed: int) -> Habit:
    """Refuse this share of all calls in the words that stand for everything."""
    random = Random(seed)

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        if random.random() < share:
            raise UpstreamError(400, None)
        return page

    return Habit("refuses", "page", act, detail=f"{share:.0%}, seed {seed}")


@pytest.mark.parametrize("seed", range(3))
def test_a_third_of_refused_calls_costs_seconds_and_no_row(seed: int) -> None:
    with machine(TRUTH, refuses(0.3, seed), page_size=20) as one:
        report = one.run()
        judge(one, report)
        assert report.exit_code == ExitCode.OK, report.error
        assert one.clock.seconds < 200, "no pause of five minutes"


def denies(status: int, share: float, seed: int) -> Habit:
    """Refuse this share of all requests with a status."""
    random = Random(seed)

    def act(answer: Answer, _moment: Moment) -> Answer:
        return Answer(status, b'{"error":"invalid_token"}') if random.random() < share else answer

    return Habit("denies", "http", act, network.ALL, f"{status} {share:.0%}")


@pytest.mark.parametrize("status", [401, 403])
def test_one_refused_credential_among_many_answers_does_not_end_a_run(status: int) -> None:
    with machine(TRUTH, denies(status, 0.05, 3), page_size=20) as one:
        report = one.run()
        judge(one, report)
        assert report.exit_code == ExitCode.OK, report.error


@pytest.mark.parametrize("status", [401, 403])
def test_a_credential_that_is_refused_ends_a_run_soon(status: int) -> None:
    with machine(TRUTH, denies(status, 1.0, 3)) as one:
        report = one.run()
        assert report.exit_code == ExitCode.ACCESS
        assert one.clock.seconds < 5


@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
def test_a_server_that_never_answers_discover_is_asked_in_the_older_way(source: str) -> None:
    stalled = network.stalls("before").at(0, 1, during="opening")
    with machine(world(range(0, 2_000, 100), eras="legacy"), stalled, source=source, timeout_seconds=1.0) as one:
        report = one.run()
        judge(one, report)
        assert report.exit_code == ExitCode.OK, report.error


def test_a_server_that_answers_nothing_is_told_with_the_setting_that_may_help() -> None:
    with machine(
        TRUTH, network.stalls("before").at(0, None, during="opening"), timeout_seconds=0.5, retry_seconds=1.0
    ) as one:
        report = one.run()
        assert report.exit_code == ExitCode.TRY_AGAIN
        assert "protocol = '2025-11-25'" in str(report.error)


@pytest.mark.parametrize(
    "answer", [network.html(200), network.html(404), network.answers(204, kind="")], ids=lambda habit: habit.label
)
def test_what_never_was_an_mcp_server_is_told_soon(answer: Habit) -> None:
    with machine(TRUTH, answer.at(0, None, during="opening")) as one:
        report = one.run()
        assert report.exit_code == ExitCode.PROTOCOL
        assert "check the server URL" in str(report.error)
        assert one.clock.seconds < 5
