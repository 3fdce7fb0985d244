from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 400


@pytest.fixture
def poisoned(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """Start a server with rows that it refuses; its token is in the variable."""
    with ExitStack() as stack:

        def start(**options: Any) -> Sandbox:
            world = World(SandboxOptions(**{"events": EVENTS, "poison": ("null-actor=2", "api-context=1"), **options}))
            monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["user"])
            return stack.enter_context(Sandbox(world))

        yield start


def target(sandbox: Sandbox) -> tuple[str, ...]:
    where = ("--server-url", sandbox.mcp_url, "--account", sandbox.world.accounts[0].id, "--state-dir", "state")
    where = (*where, "-o", "sources.auditlogs.budget_calls=0")  # or the tests would wait for it
    return (*where, "--sink", "parquet", "-o", "sinks.parquet.path=out", "--recover", "off", "--log-format", "text")


def rows(folder: Path) -> int:
    return int(ds.dataset(folder, format="parquet").count_rows())


def test_before_the_first_run_there_is_none(cli: Any) -> None:
    result = cli("gaps", "--state-dir", "state")
    assert (result.code, result.out) == (0, "no gaps\n")
    assert cli("gaps", "--state-dir", "state", "--json").out == "[]\n"


def test_they_are_listed_with_place_reason_and_attempts_without_server_or_token(
    cli: Any, poisoned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = _midnight_between_weeks()
    sandbox = poisoned(end_at=end)
    since, until = ((end - timedelta(days=days)).isoformat() for days in (31, 0))
    assert cli(*target(sandbox), "--since", since, "--until", until).code == 65
    account = sandbox.world.accounts[0].id
    truth = sorted(row.time_ns // 1_000_000 for row in sandbox.world.poison(account))
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    result = cli("gaps", "--state-dir", "state", "--json")
    assert result.code == 65
    listed = json.loads(result.out)
    assert sum(gap["rows"] for gap in listed) == len(truth) == 3
    for gap, at_ms in zip(listed, truth, strict=True):
        since, before = (datetime.fromisoformat(gap["window"][end]).timestamp() * 1000 for end in ("since", "before"))
        assert since <= at_ms < before
        assert before - since <= 500
        assert gap["attempts"] == 1
        assert gap["first_seen_at"] == gap["last_tried_at"]
        assert gap["reason"].startswith("actor")
        assert gap["stream"]["account_id"] == account
    text = cli("gaps", "--state-dir", "state")
    assert text.code == 65
    assert text.out.count("actor") == 3
    assert f"account {account}, auditlogs" in text.out
    assert cli("gaps", "--state-dir", "state", "--account", "0" * 32).out == "no gaps\n"
    assert cli("gaps", "--state-dir", "state", "--until", "50d").out == "no gaps\n"


def test_a_retry_reads_the_gaps_alone_and_delivers_what_became_readable(cli: Any, poisoned: Any, place: Path) -> None:
    sandbox = poisoned()
    account = sandbox.world.accounts[0].id
    cli(*target(sandbox), "--since", "40d")
    assert rows(place / "out") == EVENTS - 3
    sandbox.world.heal(account, ["null-actor"])
    sandbox.world.grow(account, 10, *_last_hour(sandbox))
    result = cli("gaps", "--retry", *target(sandbox), "--json")
    assert result.code == 65
    [left] = json.loads(result.out)
    assert (left["rows"], left["attempts"]) == (1, 2)
    assert left["first_seen_at"] < left["last_tried_at"]
    since, before = map(datetime.fromisoformat, (left["window"]["since"], left["window"]["before"]))
    assert before - since <= timedelta(milliseconds=2), "trying again narrows it further"
    assert rows(place / "out") == EVENTS - 1, "what is new is for the next run"
    sandbox.world.heal(account)
    result = cli("gaps", "--retry", *target(sandbox))
    assert (result.code, result.out) == (0, "no gaps\n")
    assert rows(place / "out") == EVENTS
    assert cli(*target(sandbox)).code == 0
    assert rows(place / "out") == EVENTS + 10


def _midnight_between_weeks() -> datetime:
    """Return an end at which the world and its windows are the same each time: how wide a gap stays hangs on both."""
    now = datetime.now(UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=7 + now.weekday())


def _last_hour(sandbox: Sandbox) -> tuple[datetime, datetime]:
    end = datetime.fromtimestamp(sandbox.world.clock()).astimezone() - timedelta(minutes=10)
    return end - timedelta(minutes=30), end


def test_old_ones_wait_for_their_next_try_unless_a_retry_is_asked_for(cli: Any, poisoned: Any) -> None:
    sandbox = poisoned(poison=("null-actor=8",), span_seconds=20 * 86_400.0, seed=3)
    attempts = []
    for command in ((), (), ("gaps", "--retry")):
        given = ("--since", "40d", "--rescan", "1m") if not command else ()
        cli(*command, *target(sandbox), *given)
        listed = json.loads(cli("gaps", "--state-dir", "state", "--json").out)
        attempts.append(sorted(gap["attempts"] for gap in listed))
    assert attempts == [[1] * 8, [1] * 8, [2] * 8]


def test_a_damaged_checkpoint_is_named_and_the_others_are_listed(cli: Any, poisoned: Any, place: Path) -> None:
    cli(*target(poisoned()), "--since", "40d")
    (place / "state" / "checkpoints" / f"{'0' * 16}.json").write_text("{")
    result = cli("gaps", "--state-dir", "state")
    assert result.code == 78
    assert "0000.json" in result.err
    assert "actor" in result.out
