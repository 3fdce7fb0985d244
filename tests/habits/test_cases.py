"""Each habit that was seen to lose rows, or to end a run for no reason, judged."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bad_habits import judge, judge_healed, machine, most_calls
from bad_habits.cases import (
    ALL_ODD,
    CUTS,
    ENDED_SESSIONS,
    ENDLESS,
    ERAS,
    GETS_NOWHERE,
    HOSTILE,
    NETWORK,
    ODD_VALUES,
    SILENT_LOSS,
    Case,
    line,
)
from bad_habits.log import world


def one_of_each(cases: Iterable[Case]) -> list[Case]:
    """Of cases that differ only in the source, take one: the sources share what is tested, and time is short."""
    named: dict[str, list[Case]] = {}
    for case in cases:
        named.setdefault(case.name, []).append(case)
    return [some[number % len(some)] for number, some in enumerate(named.values())]


ALL = [*SILENT_LOSS, *GETS_NOWHERE, *ODD_VALUES, *HOSTILE, *ENDED_SESSIONS, *NETWORK]
SHORT = [*one_of_each([*SILENT_LOSS, *GETS_NOWHERE, *HOSTILE, *ENDED_SESSIONS]), *ALL_ODD]


def judged(case: Case) -> None:
    config = {"concurrency": 1, "timeout_seconds": 5.0, **case.config}
    with machine(case.world, *case.habits, source=case.source, **config) as one:
        one.settings |= case.settings
        one.server.most_calls = most_calls(case.world, one.config["page_size"], 1, faults=16)
        report = one.run()
        judge(one, report)
        assert not case.codes or report.exit_code in case.codes, report.error
        assert case.lost is None or one.missing().total() <= case.lost
        if one.readable_missing():
            one.server.most_calls = 100_000
            judge_healed(one)


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_a_habit_costs_no_row_without_a_word(case: Case) -> None:
    judged(case)


@pytest.mark.soak
@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_habit_costs_no_row_without_a_word_from_either_source(case: Case) -> None:
    judged(case)


@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
@pytest.mark.parametrize("nature", ERAS, ids=str)
def test_every_fault_of_the_network_in_one_run_is_no_more_than_a_retry(source: str, nature: dict[str, str]) -> None:
    faults = [cut.at(1 + 3 * number, 1) for number, cut in enumerate(CUTS)]
    truth = world(line(5 * (3 * len(faults) + 5)), **nature)
    opening = [cut.at(number, 1, during="opening") for number, cut in enumerate(CUTS[:4])]
    with machine(truth, *opening, *faults, source=source, page_size=5, timeout_seconds=5.0) as one:
        one.server.most_calls = most_calls(truth, 5, 2, faults=len(faults))
        report = one.run()
        judge(one, report)
        assert report.exit_code == 0, report.error
        assert one.server.calls > 3 * len(faults)


@pytest.mark.parametrize("case", ENDLESS, ids=str)
def test_an_answer_without_end_is_not_read_to_its_end(case: Case) -> None:
    with machine(case.world, *case.habits, source=case.source, timeout_seconds=20.0) as one:
        report = one.run()
        judge(one, report)
        assert one.server.notes["sent"] <= 200_000_000, "a client ought to have had enough long before"
        judge_healed(one)
