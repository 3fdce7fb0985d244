"""Whatever a server does: exit 0 means that nothing is missing, 65 that it is in gaps, and the rest comes later.

Hypothesis draws a world with latecomers, what the server makes of it, the client's settings, and perhaps the moment
when the run dies: a hundred examples in the default run. Thousands, and processes that are killed:

    pytest -m soak tests/habits/test_worlds.py

New ones each time: `--hypothesis-profile=search` beside it. What failed once is kept as an `@example`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bad_habits import World, judge, judge_healed, machine, most_calls, serving
from bad_habits.drawing import CALL_HABITS, Example, examples, worlds
from bad_habits.log import event
from cfaudit_export import ExitCode

# An example takes a server and one to five runs: to make a failing one smaller takes minutes, so it is done by hand.
PLAIN = settings(
    suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False
)
CHILD = Path(__file__).with_name("killed_child.py")


def judged(one: Example) -> None:
    """Run an example, and judge it and what later runs make of it."""
    with machine(one.world, *one.habits, source=one.source, **one.config) as mine:
        mine.latecomers = any(event.from_call for event in one.world.events)
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


# Seven rows in a millisecond, the first one rejected, and pages smaller than what is asked for.
SEVEN = World(
    (
        event(0, 0, odd="resource.response"),
        *(event(0, number, look=number % 3) for number in range(1, 7)),
        event(1, 7, look=1),
        event(41, 8, ns=999_999, look=2),
    ),
    cap=7,
    counts=False,
)


@settings(PLAIN, max_examples=25)
@example(Example("auditlogs", SEVEN, (), {"page_size": 11, "piece_rows": 5, "concurrency": 1}, "all"))
@given(examples(habits=(), most=25))
def test_an_honest_server_of_any_nature_gives_everything_once_and_runs_may_die(one: Example) -> None:
    judged(one)


@settings(PLAIN, max_examples=20)
@given(examples(CALL_HABITS, most=20))
def test_calls_that_fail_in_any_way_at_any_moment_cost_no_row(one: Example) -> None:
    judged(one)


@settings(PLAIN, max_examples=55)
@given(examples(most=20))
def test_rows_pages_and_cursors_that_are_wrong_in_any_way_cost_no_row(one: Example) -> None:
    judged(one)


@pytest.mark.soak
@settings(PLAIN, max_examples=2_000)
@given(examples(CALL_HABITS))
def test_thousands_of_calls_that_fail_cost_no_row(one: Example) -> None:
    judged(one)


@pytest.mark.soak
@settings(PLAIN, max_examples=3_000)
@given(examples())
def test_thousands_of_wrong_answers_cost_no_row(one: Example) -> None:
    judged(one)


@pytest.mark.soak
@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
@settings(PLAIN, max_examples=30)
@given(
    worlds(odd=False), st.lists(st.integers(0, 12), min_size=1, max_size=3), st.sampled_from((2, 8)), st.integers(2, 9)
)
def test_processes_that_are_killed_at_any_call_deliver_everything_once(
    tmp_path_factory: pytest.TempPathFactory, source: str, world: World, kills: list[int], workers: int, rows: int
) -> None:
    root = tmp_path_factory.mktemp("killed")
    with serving(world, source=source) as server:  # type: ignore[arg-type]  # one of the two
        order = {"root": str(root), "url": server.url, "source": source, "concurrency": workers, "page_size": rows}
        for kill in kills:
            first = server.calls
            with subprocess.Popen([sys.executable, CHILD, json.dumps(order)]) as child:
                server.on_call = lambda at, last=first + kill, child=child: child.kill() if at == last else None
        server.on_call = lambda _at: None
        server.let_all_arrive()
        done = subprocess.run([sys.executable, CHILD, json.dumps(order)], check=False)
        assert done.returncode == ExitCode.OK
    tables = [pq.read_table(path, partitioning=None) for path in (root / "out").rglob("*.parquet")]
    assert Counter(text for table in tables for text in table["event_raw"].to_pylist()) == world.texts(source)
