"""A replay of refused events, killed at any step and started again: nothing is lost, and nothing is there twice.

Splunk may have twice what was in a request that was not known to be acknowledged. The default is a small sample;
`pytest -m soak` kills at every step.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 90
ODD, VERY_ODD = "0246", "02"  # first digits of the ids that are refused at first, and for ever
SETTINGS = {"budget_calls": 0, "piece_rows": 30, "page_size": 30, "concurrency": 2}


@dataclass(frozen=True)
class Refused:
    """A machine that has exported into a Splunk that refuses some events; its state is there to be copied."""

    runner: Any
    root: Path
    options: tuple[str, ...]
    environ: dict[str, str]
    ids: frozenset[str]

    def run(self, folder: Path, *words: str, places: tuple[Any, ...] = (), **when: Any) -> Any:
        """Run a command in a folder with the settings of these places."""
        keys = {f"sinks.{place.sink}.{key}": value for place in places for key, value in place.options.items()}
        options = [word for key, value in keys.items() for word in ("-o", f"{key}={value}")]
        environ = self.environ | {name: value for place in places for name, value in place.environ.items()}
        return self.runner.run(folder, [*words, *options, "--state-dir", "state"], environ, **when)

    def held(self, folder: Path) -> set[str]:
        paths = (folder / "state" / "quarantine").rglob("*.arrow")
        return {one for path in paths for one in pa.ipc.open_file(path).read_all()["event_id"].to_pylist()}


@pytest.fixture(scope="module")
def refused(counterparts: Any, runner: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refused]:
    splunk = counterparts.fresh("splunk")
    splunk.behind.collector.fault_of = lambda event: 6 * (event["fields"]["event_id"][0] in ODD)
    world = World(SandboxOptions(events=EVENTS, span_seconds=2 * 86_400.0, ties=0.2, twins=0.1, seed=11))
    root = tmp_path_factory.mktemp("refused")
    with Sandbox(world) as sandbox:
        source = {f"sources.auditlogs.{key}": value for key, value in SETTINGS.items()}
        options = ["--server-url", sandbox.mcp_url, "--account", world.accounts[0].id, "--recover", "off"]
        options += ["--settle-lag", "0s", *(word for key, value in source.items() for word in ("-o", f"{key}={value}"))]
        made = Refused(runner, root, tuple(options), {"CLOUDFLARE_API_TOKEN": world.tokens["account"]}, frozenset())
        done = made.run(root, "run", "--sink", "splunk", *options, places=(splunk,))
        assert done.code == 65, done.err
        ids = frozenset(made.held(root))
        assert len([*(root / "state" / "quarantine").rglob("*.arrow")]) > 2
        assert len({*splunk.ids(), *ids}) == len(splunk.ids()) + len(ids) == EVENTS
        yield Refused(runner, root, tuple(options), made.environ, ids)


class Trial:
    """One replay into one place, from a copy of the state."""

    def __init__(self, refused: Refused, place: Any, folder: Path, fault_of: Callable[[str], bool]) -> None:
        self.refused = refused
        self.place = place
        self.folder = folder
        self.never = {one for one in refused.ids if place.sink == "splunk" and fault_of(one)}
        self.delivered = EVENTS - len(refused.ids) if place.sink == "splunk" else 0
        self.unclear: set[str] = set()
        self._posted = 0
        shutil.copytree(refused.root / "state", folder / "state")
        if place.sink == "splunk":
            place.behind.collector.fault_of = lambda event: 6 * fault_of(event["fields"]["event_id"])
            # It is another Splunk than the one that refused, and is said to be where that one's data is now.
            moved = ("run", "--sink", "splunk", "--adopt-destination", *refused.options)
            assert refused.run(folder, *moved, places=(place,)).code == 65

    def replay(self, **when: Any) -> Any:
        """Replay, and note what a run that has ended cannot have known to be in Splunk."""
        done = self.refused.run(self.folder, "replay", "--to", self.place.sink, places=(self.place,), **when)
        if self.place.sink == "splunk":
            self.place.behind.settle()
            collector = self.place.behind.collector
            requests, self._posted = collector.posted[self._posted :], len(collector.posted)
            unknown = [one for one in requests if one.confirmed_by in (None, len(collector.polls))]
            self.unclear |= {json.loads(text)["fields"]["event_id"] for one in unknown for text in one.kept}
        return done

    def look(self) -> None:
        """Assert that every event is in the place or quarantined, and none is there twice that must not be."""
        stored = self.place.ids()
        assert {*stored, *self.refused.held(self.folder)} == self.refused.ids
        assert {one for one in stored if stored.count(one) > 1} <= self.unclear

    def complete(self) -> None:
        done = self.replay()
        assert done.code == (65 if self.never else 0), done.err
        self.look()
        assert set(self.place.ids()) == self.refused.ids - self.never
        assert self.refused.held(self.folder) == self.never
        left = [path for path in (self.folder / "state" / "quarantine").rglob("*") if path.is_file()]
        assert all(path.with_suffix(".arrow") in left for path in left)
        [status] = json.loads(self.refused.run(self.folder, "status", "--json").out)
        assert status["sinks"]["splunk"]["quarantined"] == len(self.never)
        assert status["sinks"][self.place.sink]["rows"] == self.delivered + len(self.refused.ids) - len(self.never)


@pytest.fixture
def trial_of(refused: Refused, counterparts: Any, tmp_path: Path) -> Callable[[str, str], Trial]:
    """Make a replay into a fresh place; a Splunk refuses ids with these first digits still."""

    def make(sink: str, odd: str) -> Trial:
        return Trial(refused, counterparts.fresh(sink), tmp_path / uuid.uuid4().hex[:8], lambda one: one[0] in odd)

    return make


def die_and_complete(trial: Trial, *steps: int) -> None:
    for step in steps:
        done = trial.replay(step=step)
        assert done.code in (0, 65, -signal.SIGKILL), done.err
        trial.look()
    trial.complete()


PLACES = [("parquet", ""), ("splunk", ""), ("splunk", VERY_ODD)]


@pytest.mark.parametrize(("sink", "odd"), PLACES[:1] + PLACES[2:])
def test_a_replay_killed_at_some_step_loses_and_doubles_nothing(
    trial_of: Callable[[str, str], Trial], sink: str, odd: str
) -> None:
    chance = random.Random(f"{sink} 20261127")
    die_and_complete(trial_of(sink, odd), chance.randrange(10, 50))


@pytest.mark.soak
@pytest.mark.parametrize(("sink", "odd"), [*PLACES, ("s3", ""), ("bigquery", "")])
def test_a_replay_killed_at_any_step_loses_and_doubles_nothing(
    trial_of: Callable[[str, str], Trial], sink: str, odd: str
) -> None:
    chance = random.Random(f"{sink} 20261127")
    undisturbed = trial_of(sink, odd)
    steps = undisturbed.replay().steps
    undisturbed.complete()
    assert steps > 50
    for step in range(steps):
        die_and_complete(trial_of(sink, odd), step, chance.randrange(steps))
