"""What older versions left behind when they were killed: read, shown and continued without a loss or a double.

`fixtures/make.py` made the archives, in checkouts of those versions: a state folder, and what four sinks had. Of the
events in them, 56 are in every sink, the folder has four more that were refused at first, Splunk has refused seven, and
one was promised to three sinks and counted by none.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

STATES = sorted(Path(__file__).with_name("fixtures").glob("*.tar.gz"))
SINKS = ("parquet", "s3", "bigquery", "splunk")
# First digits of the ids of events that Splunk refuses until it is mended.
ODD = "07"


def pair(text: str) -> tuple[str, str]:
    """Return time and description of an event, whichever server gave it."""
    event = json.loads(text)
    event = json.loads(event) if isinstance(event, str) else event
    found = event.get("action", event)
    return found["time"], found.get("description") or ""


def restored(facts: dict[str, Any], left: Path, counterparts: Any) -> dict[str, Any]:
    """Return the four places with what was in them."""
    places = {sink: counterparts.fresh(sink) for sink in SINKS}
    shutil.copytree(left / "parquet", places["parquet"].behind)
    s3 = places["s3"]
    bucket = replace(s3.behind, prefix=facts["prefix"])
    for key, one in facts["objects"].items():
        body = (left / "s3" / one["file"]).read_bytes()
        bucket.client.put_object(Bucket=bucket.bucket, Key=bucket.prefix + key, Body=body, Metadata=one["metadata"])
    again = sys.modules["flow_destinations"].bucket(bucket, s3.environ["AWS_ACCESS_KEY_ID"], "secret")
    places["s3"] = replace(again, environ=s3.environ)
    places["bigquery"].behind.say("restore", tables=facts["tables"], jobs=facts["jobs"], rows=facts["rows"])
    collector = places["splunk"].behind.collector
    collector.posted.append(sys.modules["flow_splunk_hec"].Posted(None, "", {}, 0, kept=facts["posted"]))
    collector.fault_of = lambda event: 6 * (event["fields"]["event_id"][0] in ODD)
    return places


@dataclass(frozen=True)
class Machine:
    """A machine with the state folder of an older version."""

    root: Path
    runner: Any
    sandbox: Sandbox
    places: dict[str, Any]
    account: str

    def say(self, *words: str) -> Any:
        """Run a command that asks no server."""
        return self.runner.run(self.root, [*words, "--state-dir", "state"], self._environ())

    def load(self, *words: str) -> Any:
        """Run a command with the settings of the sinks."""
        keys = {f"sinks.{sink}.{key}": value for sink, one in self.places.items() for key, value in one.options.items()}
        return self.say(*words, *(word for key, value in keys.items() for word in ("-o", f"{key}={value}")))

    def read(self, *words: str) -> Any:
        """Run a command with the settings of a run."""
        source = ["--source", "auditlogs", "--server-url", self.sandbox.mcp_url, "--account", self.account]
        sinks = [word for sink in SINKS for word in ("--sink", sink)]
        how = ["--recover", "off", "--settle-lag", "0s", "-o", "sources.auditlogs.budget_calls=0"]
        return self.load(*words, *source, *sinks, *how)

    def _environ(self) -> dict[str, str]:
        environ = {name: value for one in self.places.values() for name, value in one.environ.items()}
        return environ | {"CLOUDFLARE_API_TOKEN": self.sandbox.world.tokens["account"]}

    def truth(self) -> Counter[tuple[str, str]]:
        return Counter(pair(json.dumps(row)) for row in self.sandbox.world.rows(self.account))

    def stored(self, sink: str) -> Counter[tuple[str, str]]:
        found = self.places[sink].texts()
        return Counter(pair(text) for text in found.elements())

    def sinks(self) -> Any:
        [stream] = json.loads(self.say("status", "--json").out)
        return stream["sinks"]


@pytest.fixture(params=STATES, ids=lambda path: path.name.partition(".")[0])
def machine(request: pytest.FixtureRequest, tmp_path: Path, runner: Any, counterparts: Any) -> Iterator[Machine]:
    left = tmp_path / "left"
    with tarfile.open(request.param) as archive:
        archive.extractall(left, filter="data")
    facts = json.loads((left / "facts.json").read_text())
    world = World(SandboxOptions(events=0))
    assert world.accounts[0].id == facts["account"]
    world.add(facts["account"], facts["healed"])
    world.heal(facts["account"])
    world.add(facts["account"], facts["records"])
    (left / "state").rename(tmp_path / "state")
    with Sandbox(world) as sandbox:
        places = restored(facts, left, counterparts)
        yield Machine(tmp_path, runner, sandbox, places, facts["account"])


def test_what_an_older_version_left_is_shown(machine: Machine) -> None:
    sinks = machine.sinks()
    assert {name: len(one["intents"]) for name, one in sinks.items()} == {
        "parquet": 0,
        "s3": 1,
        "bigquery": 1,
        "splunk": 1,
    }
    assert {name: one["quarantined"] for name, one in sinks.items() if one["quarantined"]} == {"splunk": 7}
    listed = machine.say("gaps", "--json")
    assert listed.code == 65
    starts = [gap["window"]["since"] for gap in json.loads(listed.out)]
    assert len(starts) > 3
    assert {"2025-03-09T13:32:52.455Z", "2025-03-10T08:36:56.780Z", "2025-03-10T10:09:07.210Z"} <= {*starts}
    assert "7  2025-03-09" in machine.say("replay", "--list").out


def test_what_an_older_version_left_is_continued_without_a_loss_and_without_a_double(machine: Machine) -> None:
    went_on = machine.read("run", "--adopt-destination", "--json")
    assert went_on.code == 65, went_on.err
    readable, whole = machine.truth(), machine.truth()
    for row in machine.sandbox.world.poison(machine.account):
        whole[pair(json.dumps(row.record))] += 1
    odd = machine.sinks()["splunk"]["quarantined"]
    assert odd >= 7
    assert readable <= machine.stored("parquet") <= whole
    assert machine.stored("parquet").total() == readable.total() + 3, "what the second source read is kept, and once"
    assert machine.stored("s3") == machine.stored("bigquery") == readable
    assert machine.stored("splunk") <= readable
    assert machine.stored("splunk").total() == readable.total() - odd
    assert not any(one["intents"] for one in machine.sinks().values())

    machine.sandbox.world.heal(machine.account)
    retried = machine.read("gaps", "--retry")
    assert retried.out.endswith("no gaps\n"), retried.err
    machine.places["splunk"].behind.collector.fault_of = lambda _event: 0
    replayed = machine.load("replay")
    assert replayed.code == 0, replayed.err
    for sink in SINKS:
        assert machine.stored(sink) == machine.truth() == whole, sink
    last = machine.read("run", "--json")
    assert last.code == 0, last.err
    for sink in SINKS:
        assert machine.stored(sink) == whole, sink
