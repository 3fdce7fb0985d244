"""The whole program over HTTP, killed at any moment and started again until it is done: what is there then.

Exactly once in Parquet, S3 and BigQuery; at least once in Splunk, and twice only what was in a request that was not
known to be acknowledged. The default is a small sample; `pytest -m soak` kills at every step and at 200 moments.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.proof.chain import FOLDER, link_to
from cfaudit_export.proof.envelope import open_envelope, signers
from cfaudit_export.proof.keys import load_key, new_key, write_key
from cfaudit_export.proof.statement import parse_statement
from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 60
SETTINGS = {"budget_calls": 0, "piece_rows": 30, "page_size": 30, "concurrency": 2, "retry_seconds": 5}
SINKS = ("parquet", "s3", "bigquery", "splunk")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    options = SandboxOptions(events=EVENTS, span_seconds=2 * 86_400.0, ties=0.2, twins=0.1, seed=11)
    with Sandbox(World(options)) as running:
        yield running


class Trial:
    """One stream into one place, run again and again."""

    def __init__(self, sandbox: Sandbox, place: Any, folder: Path, runner: Any) -> None:
        self.sandbox = sandbox
        self.place = place
        self.folder = folder / uuid.uuid4().hex[:8]
        self.folder.mkdir()
        self.runner = runner
        self.kills = 0
        self.key_file = self.folder / "signing.pem"
        write_key(new_key(), self.key_file)

    def command(self) -> tuple[Path, list[str], dict[str, str]]:
        """Return what a runner needs to run it."""
        settings = {f"sources.auditlogs.{key}": value for key, value in SETTINGS.items()}
        settings |= {f"sinks.{self.place.sink}.{key}": value for key, value in self.place.options.items()}
        settings["integrity.key_file"] = str(self.key_file)
        world = self.sandbox.world
        arguments = ["run", "--sink", self.place.sink, "--server-url", self.sandbox.mcp_url, "--recover", "off"]
        arguments += ["--account", world.accounts[0].id, "--state-dir", "state", "--settle-lag", "0s", "--since", "3d"]
        arguments += [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        return self.folder, arguments, {"CLOUDFLARE_API_TOKEN": world.tokens["account"], **self.place.environ}

    def run(self, **when: Any) -> Any:
        return self.runner.run(*self.command(), **when)

    def killed(self, **when: Any) -> bool:
        """Run, kill it then, and look at what is there; return False where it was done by then."""
        done = self.run(**when)
        assert done.code in (0, -signal.SIGKILL), done.err
        self.look()
        self.kills += done.code != 0
        return bool(done.code != 0)

    def look(self) -> None:
        """Assert that no event is there twice."""
        stored = self.place.ids()
        assert len(stored) == len(set(stored))

    def lose_disk(self) -> None:
        """Go on elsewhere, with the checkpoint and without what was staged."""
        shutil.rmtree(self.folder / "state" / "staging", ignore_errors=True)

    def assert_next_run_completes(self) -> None:
        done = self.run()
        assert done.code == 0, done.err
        self.assert_complete()
        assert not [path for path in (self.folder / "state" / "staging").rglob("*") if path.is_file()]
        # And a run with nothing to do changes nothing.
        if self.kills % 10 == 0:
            before = sorted(self.place.stored())
            assert self.run().code == 0
            assert sorted(self.place.stored()) == before

    def assert_complete(self) -> None:
        account = self.sandbox.world.accounts[0].id
        truth = Counter(json.dumps(row, sort_keys=True) for row in self.sandbox.world.rows(account))
        stored = self.place.stored()
        assert Counter(text for _, text in dict.fromkeys(stored)) == truth, "events are missing, or strange"
        assert len(set(stored)) == len({event_id for event_id, _ in stored}) == EVENTS
        self.assert_repeated(Counter(event_id for event_id, _ in stored))
        self.assert_sealed()

    def assert_sealed(self) -> None:
        """Assert that the chain of manifests is whole and signed, and names every batch and every file once."""
        kept = sorted((self.folder / "state" / FOLDER).rglob("*.json"))  # where the sink stores no files
        files = self.place.files() or {f"{FOLDER}/{path.name}": path.read_bytes() for path in kept}
        documents = [files[name] for name in sorted(files) if name.startswith(FOLDER)]
        key = load_key(self.key_file).public
        previous, batches = None, []
        for sequence, document in enumerate(documents, 1):
            envelope = open_envelope(document)
            manifest = parse_statement(envelope.payload)
            assert (manifest.kind, manifest.sequence, manifest.previous) == ("seal", sequence, previous)
            assert signers(envelope, {key.id: key}) == {key.id}
            previous = link_to(sequence, document).sha256
            batches += manifest.batches
        assert len({one.batch_id for one in batches}) == len(batches)
        assert sum(one.rows for one in batches) == EVENTS
        named = {file.name: file.sha256 for one in batches for file in one.files}
        there = {name: content for name, content in self.place.files().items() if name.endswith(".parquet")}
        assert {name: hashlib.sha256(content).hexdigest() for name, content in there.items()} == named

    def assert_repeated(self, counts: Counter[str]) -> None:
        assert set(counts.values()) == {1}


class UncertainTrial(Trial):
    """Into Splunk, where a request that is not known to be acknowledged is sent again."""

    unclear: frozenset[str] = frozenset()
    posted = 0

    def look(self) -> None:
        """Note what the run that has ended cannot have known to be there."""
        self.place.behind.settle()
        collector = self.place.behind.collector
        polls = len(collector.polls)
        requests = collector.posted[self.posted :]
        self.posted = len(collector.posted)
        unknown = [one for one in requests if one.confirmed_by in (None, polls)]
        self.unclear |= {json.loads(text)["fields"]["event_id"] for one in unknown for text in one.kept}

    def lose_disk(self) -> None:
        """Stay: what Splunk has is known only on the disk, and without it a run stops, as is tested elsewhere."""

    def assert_repeated(self, counts: Counter[str]) -> None:
        assert {event_id for event_id, count in counts.items() if count > 1} <= self.unclear


@pytest.fixture
def trial_of(counterparts: Any, sandbox: Sandbox, runner: Any, tmp_path: Path) -> Any:
    """Make a trial into a fresh place of a sink."""

    def make(sink: str) -> Trial:
        kind = UncertainTrial if sink == "splunk" else Trial
        return kind(sandbox, counterparts.fresh(sink), tmp_path, runner)

    return make


@pytest.mark.parametrize("every", ["sampled", pytest.param("every", marks=pytest.mark.soak)])
@pytest.mark.parametrize("sink", SINKS)
def test_an_export_killed_at_any_step_is_completed_by_the_next(trial_of: Any, sink: str, every: str) -> None:
    steps = trial_of(sink).run().steps
    assert steps > 60
    chance = random.Random(f"{sink} 20261127")
    for step in range(steps) if every == "every" else sorted(chance.sample(range(steps), 2)):
        trial = trial_of(sink)
        assert trial.killed(step=step) or step > steps * 0.9
        if step % 2:
            trial.lose_disk()
        trial.assert_next_run_completes()


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("sink", ["parquet", "s3"])
def test_a_run_killed_at_any_step_of_a_seal_leaves_one_chain(trial_of: Any, sink: str, kills: int) -> None:
    steps = trial_of(sink).run(within="_seal").steps
    assert steps > 10
    chance = random.Random(f"{sink} seal")
    killed = 0
    while killed < kills:
        trial = trial_of(sink)
        order = list(range(steps)) if kills > steps else chance.sample(range(steps), 2)
        for step in chance.sample(order, 2):  # the second time at a seal that finds what the first has left
            trial.killed(step=step, within="_seal")
        trial.assert_next_run_completes()
        killed += trial.kills


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("sink", SINKS)
def test_an_export_killed_over_and_over_at_any_moment_is_completed_in_the_end(
    trial_of: Any, sink: str, kills: int
) -> None:
    chance = random.Random(f"{sink} 20261127")
    longest = 60.0  # seconds that a run takes just now, learnt from each that was not killed
    killed = 0
    while killed < kills:
        trial = trial_of(sink)
        for _ in range(3):
            begun_at = time.monotonic()
            if not trial.killed(seconds=chance.uniform(0, longest)):
                longest = time.monotonic() - begun_at
                break
            if chance.random() < 0.5:
                trial.lose_disk()
        trial.assert_next_run_completes()
        killed += trial.kills


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_two_exports_at_once_end_as_one(trial_of: Any, runner: Any, other_runner: Any, times: int) -> None:
    both = (runner, other_runner)
    for _ in range(times):
        trial = trial_of("parquet")
        for one in both:
            one.start(*trial.command())
        assert sorted(one.end().code for one in both) in ([0, 0], [0, 75])
        trial.assert_complete()
        trial.assert_next_run_completes()
