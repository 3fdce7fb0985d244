"""A stream that changes its source, or has gaps filled by a second one, killed at any moment: every event once.

The default is a small sample; `pytest -m soak` kills at every step.
"""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.responses import PlainTextResponse

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.codemode.app import CODEMODE_PREFIX
from cfaudit_sandbox.world.text import js

SETTINGS = {"budget_calls": 0, "piece_rows": 25, "page_size": 25, "concurrency": 2, "retry_seconds": 5}
HOURS = 5  # everything is within the rescan horizon, so that each source meets what the other one brought
FILLED = ("--source", "auditlogs", "--fill-gaps-from", "codemode")


@dataclass(frozen=True)
class Journey:
    """What is run to its end, and what then is killed and started again until it is done.

    Attributes:
        odd_rows: rows that only the source `codemode` can read.
        first: what is run undisturbed, none where empty.
        then: what is killed.
        on: what goes on after a kill; one is chosen each time.
    """

    odd_rows: int
    first: tuple[str, ...]
    then: tuple[str, ...]
    on: tuple[tuple[str, ...], ...]


WHOLE, TRIMMED = ("--source", "codemode"), ("--source", "auditlogs")
JOURNEYS = {
    "to whole records": Journey(0, TRIMMED, WHOLE, (WHOLE, TRIMMED)),
    "to six fields": Journey(0, WHOLE, TRIMMED, (WHOLE, TRIMMED)),
    "away from gaps": Journey(5, TRIMMED, WHOLE, (WHOLE,)),
    "filled at once": Journey(5, (), FILLED, (FILLED, WHOLE)),
    "filled later": Journey(5, TRIMMED, FILLED, (FILLED,)),
}
# The first source is left to the program, and gone after some requests: each run finds that out anew until one got
# as far as the other source.
LEFT_OPEN = Journey(0, ("--source", "auto"), (), ((),))


class Trial:
    """One folder that a journey leads to."""

    def __init__(self, journey: Journey, sandbox: Sandbox, folder: Path, runner: Any) -> None:
        self.journey = journey
        self.sandbox = sandbox
        self.folder = folder
        self.runner = runner

    def run(self, *more: str, **when: Any) -> Any:
        """Run the program with the options of both sources."""
        world = self.sandbox.world
        urls = {"auditlogs": self.sandbox.mcp_url, "codemode": self.sandbox.codemode_url}
        options = {f"sources.{name}.{key}": value for name in urls for key, value in SETTINGS.items()}
        options |= {f"sources.{name}.server_url": url for name, url in urls.items()} | {"sinks.parquet.path": "out"}
        arguments = ["run", "--sink", "parquet", "--account", world.accounts[0].id, "--state-dir", "state"]
        arguments += ["--recover", "off", "--settle-lag", "0s", "--since", "1d", *more]
        arguments += [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return self.runner.run(self.folder, arguments, {"CLOUDFLARE_API_TOKEN": world.tokens["account"]}, **when)

    def begin(self) -> None:
        """Do what comes before the kills: half of the time by the first source."""
        if self.journey.first:
            half = datetime.fromtimestamp(self.sandbox.world.before, UTC) - timedelta(hours=HOURS / 2)
            done = self.run(*self.journey.first, "--until", half.isoformat())
            assert done.code == (65 if self.journey.odd_rows else 0), done.err

    def rows(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "out").rglob("*.parquet"))
        return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]

    def look(self) -> list[dict[str, Any]]:
        """Assert that no event is there twice, whichever sources brought it."""
        rows = self.rows()
        assert len({row["event_key"] for row in rows}) == len({row["event_id"] for row in rows}) == len(rows)
        return rows

    def complete(self, chance: random.Random) -> None:
        """Go on until nothing is left to do, and look at what is there."""
        done = self.run(*chance.choice(self.journey.on))
        assert done.code == 0, done.err
        rows, records = self.look(), list(self.sandbox.world.records(self.sandbox.world.accounts[0].id))
        assert Counter(row["event_time"] for row in rows) == Counter(map(moment, records))
        by_source = Counter(row["source"] for row in rows)
        assert by_source["codemode"] >= self.journey.odd_rows
        assert Counter(row["event_raw"] for row in rows if row["source"] == "codemode") <= Counter(map(js, records))
        assert not [path for path in (self.folder / "state" / "staging").rglob("*") if path.is_file()]
        [path] = (self.folder / "state" / "checkpoints").glob("*.json")
        assert not json.loads(path.read_text())["gaps"]


def moment(record: dict[str, Any]) -> datetime:
    at = datetime.fromisoformat(record["action"]["time"])
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[int, Sandbox]]:
    """Serve an account without rejected rows, and one with some."""

    def of(odd_rows: int) -> Sandbox:
        poison = {"all": odd_rows} if odd_rows else {}
        options = {"span_seconds": HOURS * 3_600.0, "ties": 0.4, "twins": 0.2, "seed": 11}
        return Sandbox(World(SandboxOptions(events=60, poison=poison, poison_placement="tied", **options)))

    with of(0) as plain, of(5) as odd:
        yield {0: plain, 5: odd}


@pytest.fixture
def trial_of(sandboxes: dict[int, Sandbox], runner: Any, tmp_path: Path) -> Callable[[Journey], Trial]:
    """Make a trial in a fresh folder."""

    def make(journey: Journey) -> Trial:
        folder = tmp_path / uuid.uuid4().hex[:8]
        folder.mkdir()
        return Trial(journey, sandboxes[journey.odd_rows], folder, runner)

    return make


@contextmanager
def gone_after(sandbox: Sandbox, requests: int) -> Iterator[None]:
    """Let the server of whole records answer so many requests, and then be gone."""
    served, asked = sandbox.app.mounts[CODEMODE_PREFIX], count()

    async def door(*scope: Any) -> None:
        app = served if next(asked) < requests else PlainTextResponse("not here any more", 410)
        await app(*scope)

    sandbox.app.mounts[CODEMODE_PREFIX] = door
    try:
        yield
    finally:
        sandbox.app.mounts[CODEMODE_PREFIX] = served


def die_and_complete(trial: Trial, steps: tuple[int, int], chance: random.Random) -> None:
    """Kill a run before a step, and what goes on after it before another; then complete."""
    trial.begin()
    first, second = steps
    for arguments, step in ((trial.journey.then, first), (chance.choice(trial.journey.on), second)):
        done = trial.run(*arguments, step=step)
        assert done.code in (0, 65, -signal.SIGKILL), done.err
        trial.look()
    trial.complete(chance)


@pytest.mark.parametrize("name", ["to whole records", "filled later"])
def test_a_change_of_source_killed_at_some_step_loses_and_doubles_no_event(
    trial_of: Callable[[Journey], Trial], name: str
) -> None:
    chance = random.Random(f"{name} 20261127")
    die_and_complete(trial_of(JOURNEYS[name]), (chance.randrange(20, 60), chance.randrange(20, 60)), chance)


def test_a_failover_killed_at_some_step_loses_and_doubles_no_event(trial_of: Callable[[Journey], Trial]) -> None:
    chance = random.Random("failover 20261130")
    trial = trial_of(LEFT_OPEN)
    with gone_after(trial.sandbox, 1_000):
        trial.begin()
    with gone_after(trial.sandbox, 3):
        for step in (chance.randrange(20, 60), chance.randrange(20, 60)):
            done = trial.run(step=step)
            assert done.code in (0, -signal.SIGKILL), done.err
            trial.look()
        trial.complete(chance)
        assert {row["source"] for row in trial.rows()} == {"codemode", "auditlogs"}


@pytest.mark.soak
def test_a_failover_killed_at_any_step_loses_and_doubles_no_event(trial_of: Callable[[Journey], Trial]) -> None:
    chance = random.Random("failover 20261130")
    for step in range(0, 120, 2):
        trial = trial_of(LEFT_OPEN)
        trial.begin()
        with gone_after(trial.sandbox, chance.randrange(12)):
            done = trial.run(step=step)
            assert done.code in (0, -signal.SIGKILL), done.err
            trial.look()
            trial.complete(chance)


@pytest.mark.soak
@pytest.mark.parametrize("name", JOURNEYS)
def test_a_change_of_source_killed_at_any_step_loses_and_doubles_no_event(
    trial_of: Callable[[Journey], Trial], name: str
) -> None:
    journey, chance = JOURNEYS[name], random.Random(f"{name} 20261127")
    undisturbed = trial_of(journey)
    undisturbed.begin()
    steps = undisturbed.run(*journey.then).steps
    undisturbed.complete(chance)
    assert steps > 60
    for step in range(steps):
        die_and_complete(trial_of(journey), (step, chance.randrange(steps)), chance)
