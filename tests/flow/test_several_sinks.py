"""One run into several sinks, and what one of them refuses: the program as its user starts it, over HTTP."""

from __future__ import annotations

import json
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

DAY = 86_400.0
EVENTS = 200
# First digits of the ids of events that a picky Splunk refuses.
ODD = "07"
SINKS = ("parquet", "s3", "bigquery", "splunk")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS, span_seconds=10 * DAY, ties=0.1, twins=0.05))) as running:
        yield running


@dataclass(frozen=True)
class Machine:
    """A machine that exports the first account of a sandbox."""

    sandbox: Sandbox
    runner: Any
    root: Path

    @property
    def account(self) -> str:
        return self.sandbox.world.accounts[0].id

    def truth(self) -> Counter[str]:
        return Counter(json.dumps(row, sort_keys=True) for row in self.sandbox.world.rows(self.account))

    def staged(self) -> list[Path]:
        return [path for path in (self.root / "state" / "staging").rglob("*") if path.is_file()]

    def run(self, *places: Any) -> Any:
        """Export into these places; return how the process ended."""
        return self.runner.run(*self.command(*places))

    def command(self, *places: Any) -> tuple[Path, list[str], dict[str, str]]:
        """Return what a runner needs to export into these places."""
        sinks = [word for place in places for word in ("--sink", place.sink)]
        source = ["--server-url", self.sandbox.mcp_url, "--account", self.account, "--recover", "off"]
        return self.words("run", *source, *sinks, "--settle-lag", "0s", "--json", of=places)

    def ask(self, *words: str, of: tuple[Any, ...] = ()) -> Any:
        """Run a command with the settings of these places."""
        return self.runner.run(*self.words(*words, of=of))

    def words(self, *words: str, of: tuple[Any, ...]) -> tuple[Path, list[str], dict[str, str]]:
        keys = {f"sinks.{place.sink}.{key}": value for place in of for key, value in place.options.items()}
        options = [word for key, value in keys.items() for word in ("-o", f"{key}={value}")]
        environ = {name: value for place in of for name, value in place.environ.items()}
        environ["CLOUDFLARE_API_TOKEN"] = self.sandbox.world.tokens["account"]
        return self.root, [*words, *options, "--state-dir", "state"], environ

    def status(self, sink: str) -> Any:
        [stream] = json.loads(self.ask("status", "--json").out)
        return stream["sinks"][sink]


@pytest.fixture
def new_machine(sandbox: Sandbox, runner: Any, tmp_path: Path) -> Callable[[], Machine]:
    """Make a machine where nothing was exported yet."""

    def make() -> Machine:
        root = tmp_path / uuid.uuid4().hex[:8]
        root.mkdir()
        return Machine(sandbox, runner, root)

    return make


@pytest.fixture
def machine(new_machine: Callable[[], Machine]) -> Machine:
    return new_machine()


@pytest.fixture
def picky(counterparts: Any) -> Any:
    """A Splunk that finds fault with some events."""
    place = counterparts.fresh("splunk")
    place.behind.collector.fault_of = lambda event: 6 * (event["fields"]["event_id"][0] in ODD)
    return place


def report(done: Any) -> Any:
    [one] = json.loads(done.out)
    return one


def of_sink(done: Any, sink: str) -> Any:
    return next(one for one in report(done)["sinks"] if one["name"] == sink)


def test_one_extraction_fills_every_sink(new_machine: Callable[[], Machine], counterparts: Any) -> None:
    machine = new_machine()
    places = [counterparts.fresh(sink) for sink in SINKS]
    done = machine.run(*places)
    assert done.code == 0, done.err
    assert report(done)["calls"] == report(new_machine().run(counterparts.fresh("parquet")))["calls"]
    for place in places:
        assert place.texts() == machine.truth(), place.sink
        assert place.ids() == places[0].ids()
    assert len(set(places[0].ids())) == EVENTS
    assert machine.staged() == []


def test_a_dead_sink_holds_no_other_and_catches_up_from_what_is_staged(machine: Machine, counterparts: Any) -> None:
    parquet, s3, splunk = (counterparts.fresh(sink) for sink in ("parquet", "s3", "splunk"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        options = splunk.options | {"url": f"http://127.0.0.1:{silent.getsockname()[1]}", "retry_seconds": "0"}
        first = machine.run(parquet, replace(splunk, options=options), s3)
    assert first.code == 69
    assert [of_sink(first, one)["exit_code"] for one in ("parquet", "splunk", "s3")] == [0, 69, 0]
    assert "sink 'splunk': splunk at 'http://127.0.0.1" in first.err
    assert parquet.texts() == s3.texts() == machine.truth()
    assert splunk.ids() == []
    batch = machine.status("splunk")["intents"][0]["batch_id"]
    assert {path.stem for path in machine.staged()} == {batch}

    files = set(parquet.behind.rglob("*.parquet"))
    second = machine.run(parquet, splunk, s3)
    assert second.code == 0, second.err
    assert splunk.texts() == machine.truth()
    assert splunk.ids() == parquet.ids()
    assert [of_sink(second, one)["rows"] for one in ("parquet", "splunk", "s3")] == [0, EVENTS, 0]
    assert set(parquet.behind.rglob("*.parquet")) == files
    assert report(second)["events"] < EVENTS / 5, "what was staged is not read again: only the rescan horizon is"
    assert machine.staged() == []


def test_a_disk_that_is_full_ends_the_run_cleanly_and_the_next_one_goes_on(
    machine: Machine, counterparts: Any, tmp_path: Path
) -> None:
    """The limit on the size of files stands for the disk: a write that goes beyond it fails in the middle."""
    parquet = counterparts.fresh("parquet")
    folder, arguments, environ = machine.command(parquet)
    smallest = 20_000  # bytes, more than a checkpoint and less than the staged batch
    full = machine.runner.run(folder, arguments, environ, largest_file_bytes=smallest)
    assert full.code == 75, full.err
    assert "cannot stage a batch under 'state/staging/" in full.err
    assert "Traceback" not in full.err
    assert machine.staged() == []
    assert parquet.ids() == []
    assert machine.status("parquet")["intents"] == []
    assert machine.run(parquet).code == 0
    assert parquet.texts() == machine.truth()
    assert len(set(parquet.ids())) == EVENTS


def test_what_splunk_refuses_is_listed_replayed_and_never_hidden(
    machine: Machine, counterparts: Any, picky: Any
) -> None:
    parquet = counterparts.fresh("parquet")
    first = machine.run(parquet, picky)
    refused = of_sink(first, "splunk")["quarantined"]
    assert first.code == 65, first.err
    assert refused == sum(event_id[0] in ODD for event_id in parquet.ids()) > 5
    assert f"refused {refused} events for good, which are quarantined; see 'cfaudit-export replay --list'" in first.err
    assert len(picky.ids()) == EVENTS - refused
    assert machine.status("splunk")["quarantined"] == refused
    assert machine.run(parquet, picky).code == 65, "also when there was nothing new"

    shown = machine.ask("replay", "--list")
    assert shown.code == 65
    [line] = shown.out.splitlines()[1:]
    assert line.split()[:3] == [machine.account, "splunk", str(refused)]
    assert line.rstrip().endswith("'Invalid data format' (code 6)")
    listed = json.loads(machine.ask("replay", "--list", "--json").out)
    assert sorted([*picky.ids(), *(one["event_id"] for one in listed)]) == parquet.ids()

    again = machine.ask("replay", "--json", of=(picky,))
    assert again.code == 65, again.err
    [said] = json.loads(again.out)
    assert (said["rows"], said["refused"], said["left"], said["error"]) == (0, refused, refused, None)
    assert len(json.loads(machine.ask("replay", "--list", "--json").out)) == refused
    twice = machine.ask("replay", "--to", "parquet", of=(parquet,))
    assert twice.code == 2
    assert "sink 'parquet' has these events already, from exports of its own" in twice.err
    assert len(parquet.ids()) == EVENTS

    picky.behind.collector.fault_of = lambda _event: 0
    healed = machine.ask("replay", "--sink", "splunk", of=(picky,))
    assert healed.code == 0, healed.err
    assert healed.out.splitlines()[1].split() == [machine.account, "splunk", "splunk", str(refused), "0", "0"]
    assert picky.ids() == parquet.ids()
    assert picky.texts() == machine.truth()
    assert machine.ask("replay", "--list").out == "nothing is quarantined\n"
    assert machine.run(parquet, picky).code == 0


def test_what_is_refused_for_ever_can_go_elsewhere(machine: Machine, counterparts: Any, picky: Any) -> None:
    s3 = counterparts.fresh("s3")
    assert machine.run(picky).code == 65
    moved = machine.ask("replay", "--to", "s3", of=(s3,))
    assert moved.code == 0, moved.err
    assert len({*s3.ids(), *picky.ids()}) == len(s3.ids()) + len(picky.ids()) == EVENTS
    assert machine.run(picky).code == 0

    # Should the other become a sink of this stream one day, it gets the rest, and nothing twice.
    assert machine.run(picky, s3).code == 0
    assert s3.texts() == machine.truth()
    assert len(set(s3.ids())) == EVENTS


def test_what_is_refused_for_ever_can_be_given_up(machine: Machine, picky: Any) -> None:
    refused = of_sink(machine.run(picky), "splunk")["quarantined"]
    assert machine.ask("replay", "--discard").code == 2, "it wants to know of which sink"
    assert machine.ask("replay", "--discard", "--list").code == 2
    given_up = machine.ask("replay", "--discard", "--sink", "splunk", "--json")
    assert given_up.code == 0
    assert [one["discarded"] for one in json.loads(given_up.out)] == [refused]
    assert machine.ask("replay", "--list").code == 0
    assert machine.run(picky).code == 0
    assert len(picky.ids()) == EVENTS - refused


def test_refusals_that_are_counted_and_not_here_are_named(machine: Machine, picky: Any) -> None:
    refused = of_sink(machine.run(picky), "splunk")["quarantined"]
    for path in (machine.root / "state" / "quarantine").rglob("*.arrow"):
        path.unlink()
    shown = machine.ask("replay", "--list")
    assert shown.code == 65
    assert f"{refused} more events that sink 'splunk' refused are quarantined on another machine, or lost" in shown.err
    assert machine.ask("replay", of=(picky,)).code == 65
    assert machine.ask("replay", "--discard", "--sink", "splunk").code == 0
    assert machine.run(picky).code == 0
