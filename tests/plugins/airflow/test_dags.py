"""DAGs in a real Airflow: mapped over slices, cleared and run again, retried when it makes sense, and only then."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_sandbox import Sandbox
from planted.files import write_rows
from planted.world import Story

SLICES = 2
DAY = timedelta(days=1)
CANARY = "cfut_zq7k3Canary0123456789abcdefXYWVUTSRQPON"


@dataclass(frozen=True)
class Done:
    """What became of the DAGs, in the order of the steps."""

    folder: Path
    started: datetime
    available: Any
    first: Any
    again: Any
    interval: Any
    by_hand: Any
    refused: Any
    unsettled: Any
    said_back: Any
    told: Any
    told_again: Any
    too_severe: Any
    log: str


@pytest.fixture(scope="module")
def done(
    airflow: Any, sandbox: Sandbox, connections: Any, says_back: str, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """Run all DAGs in one process, as starting Airflow takes longer than anything else."""
    folder = tmp_path_factory.mktemp("exported")
    started = datetime.now(UTC)
    out = str(folder / "out")
    # Up to two days ago, so that an interval is left for the DAG that has them.
    midnight = started.replace(hour=0, minute=0, second=0, microsecond=0)
    span = {"since": (started - 60 * DAY).isoformat(), "until": (midnight - 2 * DAY).isoformat(), "slices": SLICES}
    account = sandbox.world.accounts[0].id
    tomorrow = {"account": account, "since": (started - DAY).isoformat(), "until": (started + DAY).isoformat()}
    steps = [
        {"dag": "cloudflare_audit_backfill", "conf": span, "out": out},
        {"dag": "cloudflare_audit_backfill", "conf": span, "out": out},
        {"dag": "interval", "date": (midnight - DAY).isoformat(), "out": out},
        {"dag": "by_hand", "out": out},
        {"dag": "refused"},
        {"dag": "unsettled", "conf": tomorrow, "waits": True},
        {"dag": "said_back"},
        {"dag": "told"},
        {"dag": "told"},
        {"dag": "too_severe", "conf": {"place": str(folder / "severe")}},
    ]
    story = Story(account, (started - timedelta(hours=2)).replace(microsecond=0), [])
    story.add("zones/zones", "delete", "Delete zone", zone_name="shop-1.example")
    write_rows(folder / "severe", story.rows)
    extra = {"state_dir": str(folder / "state"), "sinks.parquet.path": out, "source": "auditlogs"}
    told = {"conn_type": "cloudflare_audit", "host": says_back, "password": CANARY, "extra": extra}
    environ = connections(folder) | {"AIRFLOW_CONN_SAID_BACK": json.dumps(told)}
    (available, *results), log = airflow.steps(*steps, **environ)
    return Done(folder, started, available, *results, log)


def rows(folder: Path, files: list[str] | None = None) -> list[dict[str, Any]]:
    """Return all events of these files, those of the whole folder without any."""
    paths = map(Path, files) if files is not None else sorted((folder / "out").rglob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]


def exports(result: Any) -> list[Any]:
    return [task for task in result["tasks"] if task["task"] == "export"]


def test_every_dag_can_be_read(done: Done) -> None:
    assert done.available["errors"] == {}
    assert {"cloudflare_audit_backfill", "cloudflare_audit_hourly"} <= set(done.available["dags"])


def test_a_backfill_is_mapped_over_accounts_and_slices(done: Done, sandbox: Sandbox) -> None:
    assert done.first["state"] == "success"
    mapped = exports(done.first)
    assert [task["index"] for task in mapped] == list(range(SLICES * len(sandbox.world.accounts)))
    assert all((task["state"], task["tries"]) == ("success", 1) for task in mapped)
    got = sum(run["sinks"][0]["rows"] for task in mapped for run in task["returned"]["runs"])
    assert got == len(rows(done.folder, done.first["files"])) > 0


def test_cleared_and_run_again_it_leaves_the_same_rows(done: Done) -> None:
    assert done.again["state"] == "success"
    assert len(exports(done.again)) == len(exports(done.first))
    assert done.again["files"] == done.first["files"]


def test_a_data_interval_is_exported_and_nothing_beside_it(done: Done, sandbox: Sandbox) -> None:
    assert done.interval["state"] == "success"
    new = rows(done.folder, sorted(set(done.interval["files"]) - set(done.again["files"])))
    end = done.started.replace(hour=0, minute=0, second=0, microsecond=0) - DAY
    wanted = [
        row
        for account in sandbox.world.accounts
        for row in sandbox.world.rows(account.id)
        if end - DAY <= datetime.fromisoformat(row["time"]) < end
    ]
    assert len(new) == len(wanted) > 0
    assert all(end - DAY <= row["event_time"] < end for row in new)


def test_without_an_interval_the_checkpoint_decides_and_everything_is_there_once(done: Done, sandbox: Sandbox) -> None:
    assert done.by_hand["state"] == "success"
    settled = done.started - timedelta(minutes=5)
    wanted = Counter(
        (account.id, datetime.fromisoformat(row["time"]))
        for account in sandbox.world.accounts
        for row in sandbox.world.rows(account.id)
        if datetime.fromisoformat(row["time"]) < settled
    )
    found = rows(done.folder)
    assert len({row["event_id"] for row in found}) == len(found)
    assert Counter((row["account_id"], row["event_time"]) for row in found) == wanted


def test_a_refused_token_fails_at_once_whatever_retries_are_left(done: Done) -> None:
    [task] = done.refused["tasks"]
    assert (task["state"], task["tries"]) == ("failed", 1)
    [run] = task["report"]["runs"][:1]
    assert (task["report"]["exit_code"], run["exit_code"]) == (77, 77)
    assert "exit code 77: sign in again, or a permission is missing" in done.log


def test_a_fault_that_passes_is_retried_when_it_has_passed(done: Done) -> None:
    """The task's own delay is an hour."""
    [task] = done.unsettled["tasks"]
    assert (task["state"], task["tries"]) == ("up_for_retry", 1)
    assert 0.9 * DAY.total_seconds() < task["delay"] < 1.1 * DAY.total_seconds()
    assert "what stopped it is over in" in done.log


def test_downstream_dags_hear_of_new_events_by_account(done: Done, sandbox: Sandbox) -> None:
    names = {f"cloudflare-audit://{account.id}/auditlogs" for account in sandbox.world.accounts}
    assert {uri for uri, _ in done.first["events"]} == names
    assert sum(said for _, said in done.first["events"]) == len(rows(done.folder, done.first["files"]))
    assert len(done.again["events"]) == len(done.first["events"])


def test_the_log_of_a_task_has_facts_and_no_token(done: Done, sandbox: Sandbox) -> None:
    assert "window done window=" in done.log
    assert "run finished account=" in done.log
    assert "HTTP Request" not in done.log, "what libraries say of each request is left out"
    assert sandbox.world.tokens["user"] not in done.log


def test_a_token_that_a_server_says_back_is_in_no_error_report_or_log_and_no_part_of_it(done: Done) -> None:
    """Airflow masks whole secrets in logs, but no parts of them, and none in XCom."""
    tasks = {task["task"]: task for task in done.said_back["tasks"]}
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(("one", "all", "plan"), "failed")
    assert "HTTP 403: " in tasks["one"]["report"]["runs"][0]["error"]
    assert done.log.count("AirflowFailException: ") >= len(tasks)
    parts = {CANARY[at : at + 8] for at in range(len(CANARY) - 7)}
    assert not [part for part in parts if part in done.log]


def test_what_deserves_a_look_is_told_once(done: Done) -> None:
    assert (done.told["state"], done.told_again["state"]) == ("success", "success")
    [first], [again] = done.told["tasks"], done.told_again["tasks"]
    found = sum(first["returned"]["found"].values())
    assert found > 0
    # One more may be about events that were old when they were exported.
    assert first["returned"]["delivered"]["answer"] - found in (0, 1)
    # One that goes on may begin later as the period moves; its rule and key are quiet.
    assert again["returned"]["delivered"] == {}


def test_what_is_too_severe_fails_the_task_at_once(done: Done) -> None:
    [task] = done.too_severe["tasks"]
    assert (task["state"], task["tries"]) == ("failed", 1)
    assert "high: zone deleted or moved (shop-1.example)" in done.log


def test_what_observes_runs_is_told_under_a_scheduler_too(done: Done, sandbox: Sandbox) -> None:
    text = (done.folder / "cfaudit.prom").read_text()
    assert all(f'account="{account.id}"' in text for account in sandbox.world.accounts)
