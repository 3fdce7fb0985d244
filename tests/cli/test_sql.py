"""`sql`: forms of answers, what it can reach, and how it talks at a terminal."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Cli = Callable[..., Any]
COUNT = "select count(*) as n from audit_events"
BY_ACTOR = "select actor_email, count(*) as n from audit_events group by all order by n desc, actor_email"
SECONDS = 120
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-z]|\r", re.IGNORECASE)


def test_every_form_gives_the_same_answer(cli: Cli, exported: Any, place: Path) -> None:
    wanted = Counter(one.get("actor_email") for one in exported.events)
    result = cli("sql", *exported.where, BY_ACTOR, "--format", "json")
    assert (result.code, result.err) == (0, "")
    rows = json.loads(result.out)
    assert {row["actor_email"]: row["n"] for row in rows} == wanted
    lines = cli("sql", *exported.where, BY_ACTOR, "--format", "ndjson").out.splitlines()
    assert list(map(json.loads, lines)) == rows
    table = list(csv.reader(StringIO(cli("sql", *exported.where, BY_ACTOR, "--format", "csv").out)))
    assert table == [["actor_email", "n"], *([row["actor_email"] or "", str(row["n"])] for row in rows)]
    saved = cli("sql", *exported.where, BY_ACTOR, "--format", "parquet", "-O", "answer.parquet")
    assert (saved.code, saved.out, saved.err) == (0, "", "wrote 'answer.parquet'\n")
    assert pq.read_table("answer.parquet").to_pylist() == rows
    shown = cli("sql", *exported.where, BY_ACTOR).out.splitlines()
    assert shown[0].split() == ["actor_email", "n"]
    assert len(shown) == len(rows) + 1


def test_a_period_and_accounts_leave_out_the_rest(cli: Cli, exported: Any) -> None:
    since = exported.until - timedelta(days=3)
    asked = ("sql", *exported.where, COUNT, "--format", "json")
    assert json.loads(cli(*asked, "--since", since.isoformat()).out) == [{"n": len(exported.since(since))}]
    before = len(exported.events) - len(exported.since(since))
    assert json.loads(cli(*asked, "--until", since.isoformat()).out) == [{"n": before}]
    assert json.loads(cli(*asked, "--account", "f" * 32).out) == [{"n": 0}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("select * from read_text('/etc/passwd')",), "SQL can read audit_events here, and no file, network or"),
        (("copy audit_events to 'stolen.csv'",), "SQL can read audit_events here, and no file, network or setting"),
        (("attach 'x.db'",), "SQL can read audit_events here, and no file, network or setting"),
        (("set enable_external_access = true",), "SQL"),
        (("selec 1",), "SQL: syntax error"),
        (("from audit",), "the events are in audit_events"),
        (("select actor from audit_events",), "SQL: "),
        ((COUNT, "--format", "xml"), "--format: expected one of table, csv, json, ndjson, parquet, not 'xml'"),
        ((COUNT, "-O", "x.csv"), "--output needs a --format for files: csv, json, ndjson or parquet"),
        ((f"{COUNT}; {COUNT}", "--format", "csv", "-O", "x.csv"), "--output takes one statement, not several"),
        (("", "--format", "csv", "-O", "x.csv"), "no SQL statement given"),
        ((COUNT, "--format", "csv", "-O", "no/folder/x.csv"), "cannot write 'no/folder/x.csv'"),
        ((COUNT, "--format", "csv", "-O", "."), "cannot write '.': it is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    cli: Cli, exported: Any, place: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported.out.rglob("*")}
    result = cli("sql", *exported.where, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.line
    assert list(place.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in exported.out.rglob("*")} == before


def test_a_table_shows_no_control_sequence_and_no_markup(cli: Cli, exported: Any) -> None:
    asked = "select chr(27) || '[2J' as \"[red]head\", 'a' || chr(8238) || 'b[/]' as x"
    result = cli("sql", *exported.where, asked)
    assert result.out.split() == ["[red]head", "x", "\\x1b[2J", "a\\u202eb[/]"]


def test_a_file_that_is_no_export_is_passed_over_with_a_word(cli: Cli, exported: Any, place: Path) -> None:
    folder = place / "data" / "account_id=a" / "event_date=2026-11-01"
    folder.mkdir(parents=True)
    (folder / "half.parquet").write_bytes(b"PAR1")
    result = cli("sql", "--data", "data", COUNT, "--format", "json")
    assert json.loads(result.out) == [{"n": 0}]
    assert "skipped 'account_id=a/event_date=2026-11-01/half.parquet': not a whole Parquet file" in result.err


def test_statements_come_from_stdin_too_and_an_early_end_of_the_reader_is_no_fault(exported: Any, place: Path) -> None:
    command = [sys.executable, "-m", "cfaudit_export", "sql", *exported.where, "--format", "ndjson"]
    done = subprocess.run(command, input=f"{COUNT};", capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"n": len(exported.events)}, "")
    with subprocess.Popen([*command, "from range(3_000_000)"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as long:
        assert long.stdout
        assert long.stderr
        assert json.loads(long.stdout.readline()) == {"range": 0}
        long.stdout.close()
        assert (long.wait(SECONDS), long.stderr.read()) == (128 + 13, b""), "as SIGPIPE ends others"


class Screen:
    """A terminal with a person at it."""

    def __init__(self, arguments: tuple[str, ...], columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        command = [sys.executable, "-m", "cfaudit_export", *arguments]
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**environ, "TERM": "vt100"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # so that Ctrl-C is a signal
        )
        os.close(slave)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def forget(self) -> None:
        """Press Ctrl-C until there is a new prompt: one that comes just before Python waits for keys is missed."""
        for _ in range(SECONDS):
            self.type("\x03")
            with suppress(TimeoutError):
                self.wait_for("sql> ", 1)
                return
        raise TimeoutError(self._seen)

    def wait_for(self, text: str, seconds: float = SECONDS) -> str:
        """Read until a text comes; return what came before it."""
        deadline = time.monotonic() + seconds
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(self._seen)
            try:
                read = os.read(self._master, 4096)
            except OSError:  # all readers at the other end have left
                read = b""
            assert read, self._seen
            self._seen = _CONTROLS.sub("", self._seen + read.decode())
        before, _, self._seen = self._seen.partition(text)
        return before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)


@pytest.fixture
def screen(place: Path) -> Iterator[Callable[..., Screen]]:
    opened: list[Screen] = []

    def sit_down(*arguments: str, **options: Any) -> Screen:
        opened.append(Screen(arguments, **options))
        return opened[-1]

    yield sit_down
    for one in opened:
        one.close()


def test_without_a_query_it_asks_for_statements(screen: Callable[..., Screen], exported: Any, place: Path) -> None:
    state = place / "my-state"
    person = screen("sql", "--data", str(exported.out), "--state-dir", str(state))
    person.wait_for("sql> ")
    person.type("select count(*) as n\n")
    person.wait_for("...> ")
    person.type("from audit_events;\n")
    assert str(len(exported.events)) in person.wait_for("sql> ")
    person.type("selec 1;\n")
    assert "SQL: syntax error" in person.wait_for("sql> ")
    person.type("select * from read_text('/etc/passwd');\n")
    assert "SQL can read audit_events here, and no file" in person.wait_for("sql> ")
    person.type(".help\n")
    assert "A statement may have several lines" in person.wait_for("sql> ")
    person.type(".columns\n")
    assert "actor_token_name" in person.wait_for("sql> ")
    person.type("half of a thought")
    person.wait_for("thought")
    person.forget()
    person.type("select 40 + 2; select count(*) from range(100000000000) a, range(1000) b where a.range < b.range;\n")
    person.wait_for("42")
    person.type("\x03")
    assert "stopped" in person.wait_for("sql> ")
    person.type("select 6 * 7 as answer;\n")
    assert "42" in person.wait_for("sql> ")
    person.type("\x04")
    assert person.process.wait(SECONDS) == 0
    history = state / "sql_history"
    assert history.stat().st_mode & 0o077 == 0
    assert "select 6 * 7 as answer;" in history.read_text()


def test_what_has_no_room_as_a_table_is_shown_a_column_a_line(screen: Callable[..., Screen], exported: Any) -> None:
    person = screen("sql", *exported.where, "select *, 'end' as fin from audit_events order by event_time limit 1")
    shown = person.wait_for("one column per line, as they do not fit side by side; empty columns are left out\n")
    assert person.process.wait(SECONDS) == 0
    assert re.search(r"^event_id +[0-9a-f]{32}$", shown, re.MULTILINE)
    assert re.search(r"^fin +end$", shown, re.MULTILINE)
    narrow = screen("sql", *exported.where, "select 'two words' as a, 'ada@example.com' as b, 'end' as c", columns=27)
    before = narrow.wait_for("end").splitlines()
    assert [line.split() for line in before] == [["a", "b", "c"], ["two", "ada@example.com"]]
    assert narrow.wait_for("words").strip() == ""


def test_parquet_is_not_written_to_a_terminal(screen: Callable[..., Screen], exported: Any) -> None:
    person = screen("sql", *exported.where, COUNT, "--format", "parquet")
    person.wait_for("--format parquet needs a file, as in -O answer.parquet")
    assert person.process.wait(SECONDS) == 2
