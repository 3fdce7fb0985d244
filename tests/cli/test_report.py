"""`report`: on a terminal, as JSON, as a page, and as the last task of a pipeline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from cfaudit_export.cli.periods import window, zone_of
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.errors import UsageError

Cli = Callable[..., Any]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_right_after_an_export_it_is_complete_and_fits_80_columns(cli: Cli, exported: Any) -> None:
    result = cli("report", *exported.where, "--fail-on-gaps")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "Audit report"
    assert "complete: by the checkpoint, the whole period was exported (sink parquet)" in result.out
    assert max(map(cell_len, lines)) <= 80
    sections = ("Coverage", "Totals", "Top actors", "Top products", "Failures", "Credentials", "Sensitive changes")
    assert [line for line in lines if line in sections] == list(sections)


def test_as_json_it_has_the_numbers_of_the_server(cli: Cli, exported: Any) -> None:
    result = cli("report", *exported.where, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    events = exported.since(exported.until - WEEK)
    assert datetime.fromisoformat(found["question"]["period"]["before"]) == exported.until
    assert found["totals"]["events"]["count"] == len(events) > 20
    named = {one["actor"]["name"]: one["events"]["count"] for one in found["actors"] if one["actor"]["kind"] == "email"}
    assert named == Counter(one["actor_email"] for one in events if one.get("actor_email"))
    assert found["coverage"]["is_complete"] is True


def test_filters_are_those_of_run(cli: Cli, exported: Any, place: Path) -> None:
    actor = Counter(one.get("actor_email") for one in exported.events if one.get("actor_email")).most_common(1)[0][0]
    mine = sum(one.get("actor_email") == actor for one in exported.since(exported.until - timedelta(days=20)))
    asked = ("report", *exported.where, "--since", "20d", "--json")
    (place / "cfaudit.toml").write_text(f'[filters]\nactor_email = "{actor}"\n')
    for result in (cli(*asked, "--actor-email", actor.upper()), cli(*asked)):
        found = json.loads(result.out)
        assert found["totals"]["events"]["count"] == mine > 0
    assert json.loads(cli(*asked, "--account", "f" * 32).out)["totals"]["events"]["count"] == 0


def test_the_settings_say_where_the_data_is(cli: Cli, exported: Any, place: Path) -> None:
    (place / "cfaudit.toml").write_text(
        f'sink = ["parquet"]\nstate_dir = "{exported.state}"\n[sinks.parquet]\npath = "{exported.out}"\n'
    )
    assert "complete: by the checkpoint" in cli("report").out
    (place / "cfaudit.toml").unlink()
    assert "name the exported files, as in --data out" in cli("report").line


def test_a_pipeline_gets_a_page_its_name_and_an_exit_code(cli: Cli, exported: Any, place: Path) -> None:
    result = cli("report", *exported.where, "--html", "report.html", "--fail-on-gaps")
    assert (result.code, result.out, result.err) == (0, "report.html\n", "wrote 'report.html'\n")
    page = Path("report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert page.count("<svg ") == 6
    assert [path.name for path in place.iterdir()] == ["report.html"], "nothing is left beside it"
    both = cli("report", *exported.where, "--html", "report.html", "--json")
    assert json.loads(both.out)["coverage"]["is_complete"] is True


def test_what_is_not_known_to_be_complete_fails_where_that_is_asked_for(cli: Cli, exported: Any, place: Path) -> None:
    unknown = ("report", "--data", str(exported.out), "--state-dir", "nowhere")
    result = cli(*unknown, "--fail-on-gaps", "--html", "report.html")
    assert (result.code, result.out) == (65, "report.html\n"), "the page is there anyway"
    assert "is unknown: the state folder has no checkpoint of it" in Path("report.html").read_text()
    assert cli(*unknown).code == 0
    later = (exported.until + timedelta(hours=1)).isoformat()
    missing = cli("report", *exported.where, "--until", later, "--since", "2d", "--fail-on-gaps")
    assert missing.code == 65
    assert "incomplete: never exported are" in missing.out


def test_a_checkpoint_that_cannot_be_read_is_said_and_nothing_is_known(cli: Cli, exported: Any, place: Path) -> None:
    (place / "state" / "checkpoints").mkdir(parents=True)
    [checkpoint] = (exported.state / "checkpoints").glob("*.json")
    (place / "state" / "checkpoints" / checkpoint.name).write_text("{")
    result = cli("report", "--data", exported.out, "--state-dir", "state", "--fail-on-gaps")
    assert result.code == 65
    assert "the coverage is unknown" in result.line
    assert "coverage of account" in result.out


def test_what_cannot_be_done_is_said_in_one_line(cli: Cli, exported: Any, place: Path) -> None:
    for arguments, message in (
        (("--data", "nope"), "no folder 'nope'; name that of the exported files"),
        ((*exported.where, "--since", "2d", "--until", "3d"), "--since must be earlier than --until"),
        ((*exported.where, "--since", "soon"), "--since: expected a time such as"),
        ((*exported.where, "--time-zone", "Mars/Olympus"), "unknown time zone 'Mars/Olympus'"),
        ((*exported.where, "--account", ""), "--account: "),
        ((*exported.where, "--html", "no/such/folder/report.html"), "cannot write 'no/such/folder/report.html'"),
        ((*exported.where, "--html", ".."), "cannot write '..': it is a folder; name a file in it"),
        ((*exported.where, "--actor-mail", "x"), "no such option '--actor-mail'; did you mean '--actor-email'?"),
    ):
        result = cli("report", *arguments)
        assert (result.code, result.out) == (2, ""), arguments
        assert message in result.line


@pytest.mark.parametrize(
    ("exported", "since", "until", "found"),
    [
        (NOW - timedelta(minutes=9), "7d", None, (NOW - timedelta(minutes=9) - WEEK, NOW - timedelta(minutes=9))),
        (NOW - timedelta(hours=25), "7d", None, (NOW - WEEK, NOW)),
        (NOW + timedelta(hours=1), "7d", None, (NOW - WEEK, NOW)),
        (None, "7d", None, (NOW - WEEK, NOW)),
        (NOW - timedelta(hours=2), "2026-11-20T11:00:00Z", None, (NOW - timedelta(hours=1), NOW)),
        (NOW - timedelta(minutes=9), "7d", "1d", (NOW - WEEK, NOW - timedelta(days=1))),
    ],
)
def test_a_period_ends_where_a_fresh_export_does(
    exported: datetime | None, since: str, until: str | None, found: tuple[datetime, datetime]
) -> None:
    shell = Shell(Terminal(), {}, lambda: NOW, Path())
    period = window(shell, since, until, exported, zone=zone_of(shell, "UTC"))
    assert (period.since, period.before) == found


def test_a_period_that_begins_in_the_future_is_none() -> None:
    shell = Shell(Terminal(), {}, lambda: NOW, Path())
    with pytest.raises(UsageError, match="'2027-01-01' is not earlier than 'now'"):
        window(shell, "2027-01-01", None, NOW, zone=zone_of(shell, "UTC"))
