"""The tool of Cloudflare's server, answered from an export: its form, its errors, and what this exporter reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.stand_in import STAND_IN, stand_in_fault
from cfaudit_export.serve.worker import answer

DAY = {"since": "2026-11-18", "before": "2026-11-19"}
SIX = ("description", "time", "actor_email", "actor_token_name", "product", "type")
Tool = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def tool(served: Any, opened: Callable[[ServeOrder], Archive]) -> Tool:
    return calling(opened(served.order(stands_in=True)))


def calling(archive: Archive) -> Tool:
    def call(**arguments: Any) -> tuple[str, dict[str, Any]]:
        reply = answer(archive, {"tool": STAND_IN, "arguments": arguments, "seconds": 60.0})
        return reply["outcome"], json.loads(reply["text"])

    return call


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_give_every_row_of_the_server_once_as_it_gave_it(tool: Tool, served: Any, direction: str) -> None:
    wanted = [row for row in served.world.rows(served.account) if "2026-11-18" <= row["time"] < "2026-11-19"]
    rows: list[Mapping[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        outcome, page = tool(**DAY, direction=direction, limit=100, **cursor)
        assert (outcome, list(page)) == ("ok", ["logs", "result_info"])
        assert page["result_info"]["count"] == len(page["logs"])
        rows += page["logs"]
        if "cursor" not in page["result_info"]:
            break
        cursor = {"cursor": page["result_info"]["cursor"]}
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse=direction == "desc")
    assert sorted(map(six, rows)) == sorted(map(six, wanted))


def six(row: Mapping[str, Any]) -> str:
    return json.dumps([row.get(name) for name in SIX])


def test_a_row_has_the_six_fields_first_and_then_what_else_is_known(tool: Tool) -> None:
    _, page = tool(**DAY)
    assert len(page["logs"]) == 10
    first = page["logs"][0]
    assert list(first)[:2] == ["description", "time"]
    assert {"id", "action_type", "action_result", "fidelity"} <= first.keys()


def test_filters_are_applied(tool: Tool, served: Any) -> None:
    wanted = [row for row in served.world.rows(served.account) if "2026-11-18" <= row["time"] < "2026-11-19"]
    _, page = tool(**DAY, actor_email="terraform@example.com", limit=1000)
    assert len(page["logs"]) == sum(row.get("actor_email") == "terraform@example.com" for row in wanted) > 0
    _, by_type = tool(**DAY, action_type="delete", limit=1000)
    assert {row["action_type"] for row in by_type["logs"]} == {"delete"}
    _, by_id = tool(**DAY, audit_log_id=page["logs"][0]["id"])
    assert [row["id"] for row in by_id["logs"]] == [page["logs"][0]["id"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "since: Invalid input: expected string, received undefined, before: Invalid input"),
        ({**DAY, "since": "2026-11-18T00:00:00Z"}, "since: Date must be in YYYY-MM-DD or ISO 8601"),
        ({**DAY, "limit": 1001}, "limit: Too big: expected number to be <=1000"),
        ({**DAY, "limit": "5"}, "limit: Invalid input: expected number, received string"),
        ({**DAY, "direction": "up"}, 'direction: Invalid option: expected one of "desc"|"asc"'),
        ({**DAY, "actor_email": "x"}, "actor_email: Invalid email address"),
        ({**DAY, "cursor": None}, "cursor: Invalid input: expected string, received null"),
        ({**DAY, "actor_mail": "x"}, "actor_mail: Unrecognized argument; did you mean 'actor_email'?"),
    ],
)
def test_wrong_arguments_are_worded_as_by_the_server(arguments: Mapping[str, Any], said: str) -> None:
    fault = stand_in_fault(arguments)
    assert fault
    assert fault.startswith(f"Input validation error: Invalid arguments for tool {STAND_IN}: ")
    assert said in fault


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"since": "2026-11-19", "before": "2026-11-21"}, "exported until 2026-11-20T00:55:00.000Z: ask with before="),
        ({"since": "2026-01-01", "before": "2026-01-02"}, "not exported: 2026-01-01T00:00:00.000Z"),
        ({"since": "2026-02-30", "before": "2026-03-02"}, "day is out of range"),
        ({**DAY, "cursor": "abc"}, "the cursor is not one of this server"),
        ({**DAY, "account_id": "f" * 32}, "is not one of the accounts that were exported"),
    ],
)
def test_what_was_not_exported_is_an_error_and_no_empty_page(tool: Tool, arguments: Any, said: str) -> None:
    outcome, body = tool(**arguments)
    assert outcome == "refused"
    assert said in body["error"]


def test_a_millisecond_beside_the_export_is_the_margin_of_a_caller(tool: Tool) -> None:
    outcome, page = tool(since="2026-11-20T00:00:00.000Z", before="2026-11-20T00:55:00.001Z")
    assert (outcome, page["logs"]) == ("ok", [])


def test_without_checkpoints_nothing_is_said_to_be_empty(
    served: Any, tmp_path: Path, opened: Callable[[ServeOrder], Archive]
) -> None:
    from cfaudit_export.settings import Settings

    archive = opened(ServeOrder(Settings(state_dir=tmp_path), str(served.folder), stands_in=True))
    outcome, body = calling(archive)(**DAY)
    assert outcome == "refused"
    assert "not known to be exported" in body["error"]


# -- this exporter, pointed at it ------------------------------------------------------------------------------------


@pytest.fixture
def exported_again(tmp_path: Path, serving: Any) -> Callable[[Any], tuple[int, Path]]:
    """Export what is served over HTTP into another folder, by the command line; return exit code and folder."""

    def run(source: Any) -> tuple[int, Path]:
        with serving(source, "--compat") as web:
            since = datetime.fromtimestamp(source.world.since, UTC).isoformat()
            command = [sys.executable, "-m", "cfaudit_export", "run", "--source", "auditlogs", "--server-url", web.url]
            command += ["--sink", "parquet", "-o", f"sinks.parquet.path={tmp_path / 'again'}"]
            command += ["--state-dir", str(tmp_path / "state"), "--since", since, "--until", "2026-11-20T00:00:00Z"]
            environ = {**os.environ, "CLOUDFLARE_API_TOKEN": "x" * 40}
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environ)
        assert done.returncode in {0, 65}, done.stderr
        return done.returncode, tmp_path / "again"

    return run


def test_this_exporter_reads_the_same_events_from_it(served: Any, exported_again: Any) -> None:
    code, folder = exported_again(served)
    columns = ["event_key", "action_type", "actor_email", "actor_context", "fidelity"]
    before, after = (list(rows(one, columns)) for one in (served.folder, folder))
    assert code == 0
    assert sorted(before, key=str) == sorted(after, key=str)
    assert len({row["event_key"] for row in after}) == len(after)
    # Which of two identical events has which id makes no difference.
    ids = [sorted(row["event_id"] for row in rows(one, ["event_id"])) for one in (served.folder, folder)]
    assert ids[0] == ids[1]


def test_gaps_of_an_export_are_gaps_of_an_export_of_it(broken: Any, exported_again: Any) -> None:
    code, folder = exported_again(broken)
    clean = [row["event_key"] for row in rows(broken.folder, ["event_key", "fidelity"]) if row["fidelity"] != "shadow"]
    again = [row["event_key"] for row in rows(folder, ["event_key", "fidelity"]) if row["fidelity"] != "shadow"]
    assert code == 65
    assert sorted(clean) == sorted(again)


def rows(folder: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    yield from ds.dataset(str(folder), partitioning="hive").to_table(columns=columns).to_pylist()
