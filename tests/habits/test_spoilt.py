"""Whatever a server puts into its answers: no fault of the program, no end that does not come, no secret."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bad_habits import machine, most_calls, world
from bad_habits.mutations import spoils
from cfaudit_export import ExitCode

TRUTH = {eras: world(range(0, 4_000, 100), eras=eras) for eras in ("modern", "legacy")}


def spoil_a_run(source: str, eras: str, seed: int, first: int, every: int) -> None:
    habit = spoils(seed).at(first, every=every, during="all")
    with machine(TRUTH[eras], habit, source=source, timeout_seconds=5.0, retry_seconds=20.0) as one:
        one.server.most_calls = most_calls(TRUTH[eras], 20, 2, faults=60)
        report = one.run()
        assert report.exit_code != ExitCode.BUG, report.error
        assert not one.server.exceeded or report.exit_code != ExitCode.OK
        assert "cfat_token" not in str(report)


moments = {
    "source": st.sampled_from(["auditlogs", "codemode"]),
    "eras": st.sampled_from(["modern", "legacy"]),
    "seed": st.integers(0, 1_000_000),
    "first": st.integers(0, 6),
    "every": st.sampled_from([1, 2, 1_000]),
}


@given(**moments)
@settings(max_examples=12)
@example(source="auditlogs", eras="legacy", seed=0, first=0, every=1)
def test_no_answer_of_a_server_is_a_fault_of_the_program(
    source: str, eras: str, seed: int, first: int, every: int
) -> None:
    spoil_a_run(source, eras, seed, first, every)


@pytest.mark.soak
@given(**moments)
@settings(max_examples=2_000)
def test_no_answer_is_in_thousands_of_tries(source: str, eras: str, seed: int, first: int, every: int) -> None:
    spoil_a_run(source, eras, seed, first, every)
