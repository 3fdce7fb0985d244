"""`init`: flags or answers become a settings file that the other commands understand."""

from __future__ import annotations

import itertools
import os
import pty
import select
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

SECRET = "cfut_" + "s" * 40


def read(place: Path, name: str = "cfaudit.toml") -> dict[str, Any]:
    return tomllib.loads((place / name).read_text())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_without_a_terminal_the_defaults_are_written(cli: Any, place: Path) -> None:
    result = cli("init")
    assert (result.code, result.out) == (0, "")
    assert read(place) == {
        "sink": ["parquet"],
        "source": "auto",
        "state_dir": "state",
        "sinks": {"parquet": {"path": "out"}},
    }
    assert mode(place / "cfaudit.toml") == 0o600
    assert [path.name for path in place.iterdir()] == ["cfaudit.toml"]
    assert "next: cfaudit-export login, cfaudit-export check, cfaudit-export run" in result.err


def test_every_line_is_explained(cli: Any, place: Path) -> None:
    assert cli("init", "--sink", "parquet,s3", "-o", "sinks.s3.bucket=logs").code == 0
    lines = (place / "cfaudit.toml").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if "=" in line and not line.startswith("#"):
            assert above.startswith("# "), line
    assert max(map(len, lines)) <= 90


def test_the_token_is_kept_in_a_file_for_its_owner_and_nowhere_else(
    cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", SECRET)
    old = os.umask(0)
    try:
        result = cli("init", "--save-token")
    finally:
        os.umask(old)
    assert result.code == 0
    assert (place / "token").read_text() == f"{SECRET}\n"
    assert mode(place / "token") == mode(place / "cfaudit.toml") == 0o600
    assert read(place)["token_file"] == "token"
    assert SECRET not in (place / "cfaudit.toml").read_text() + result.err
    assert "next: cfaudit-export check, cfaudit-export run" in result.err


def test_options_are_written_where_they_belong(cli: Any, place: Path) -> None:
    keys = ("sinks.s3.bucket=logs", "sinks.s3.prefix=a/b", "settle_lag=10m", "sources.auditlogs.page_size=500")
    pairs = [part for key in keys for part in ("-o", key)]
    assert cli("init", "--sink", "s3", "--source", "auditlogs", *pairs).code == 0
    found = read(place)
    assert found["sinks"] == {"s3": {"bucket": "logs", "prefix": "a/b"}}
    assert (found["source"], found["settle_lag"]) == ("auditlogs", "10m")
    assert found["sources"]["auditlogs"]["page_size"] == "500"


def test_a_value_with_quotes_comes_back_as_it_was(cli: Any, place: Path) -> None:
    odd = 'a "quoted" \\ fol\tder ü'
    assert cli("init", "-o", f"sinks.parquet.path={odd}").code == 0
    assert read(place)["sinks"]["parquet"]["path"] == odd


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--sink", "s3"), 2, "'sinks.s3.bucket' is missing; give it as in -o sinks.s3.bucket=VALUE"),
        (("--sink", "parqet"), 78, "did you mean 'parquet'?"),
        (("--source", "auditlog"), 78, "did you mean 'auditlogs'?"),
        (("--save-token",), 2, "--save-token: CLOUDFLARE_API_TOKEN is not set"),
        (("-o", "settle_lagg=1m"), 78, "did you mean 'settle_lag'?"),
        (("-o", "settle_lag=soon"), 78, "'settle_lag' in 'the answers'"),
        (("--config", "/dev/null/x.toml"), 78, "cannot write"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    cli: Any, place: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = cli("init", *arguments)
    assert (result.code, said in result.line) == (code, True), result.err
    assert list(place.iterdir()) == []


def test_a_file_that_is_there_is_replaced_only_when_that_is_asked_for(cli: Any, place: Path) -> None:
    assert cli("init").code == 0
    before = (place / "cfaudit.toml").read_text()
    refused = cli("init", "-o", "sinks.parquet.path=other")
    assert refused.code == 2
    assert "'cfaudit.toml' is there already; replace it with --replace" in refused.line
    assert (place / "cfaudit.toml").read_text() == before
    assert cli("init", "--replace", "-o", "sinks.parquet.path=other").code == 0
    assert read(place)["sinks"]["parquet"]["path"] == "other"


def test_at_a_terminal_it_asks_and_does_not_show_the_token(place: Path) -> None:
    answers = {b"where the events go": b"\n", b"where they come from": b"codemode\n"}
    answers |= {b"sinks.parquet.path": b"data\n", b"API token (not shown": f"{SECRET}\n".encode()}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cfaudit_export", "init"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as running:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 120)[0]:
            try:
                said += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            for question in [one for one in answers if one in said and said.rstrip(b" ").endswith(b":")]:
                os.write(ours, answers.pop(question))
        assert running.wait(60) == 0, said
    os.close(ours)
    assert not answers
    assert SECRET.encode() not in said
    assert (place / "token").read_text() == f"{SECRET}\n"
    found = read(place)
    assert (found["source"], found["sinks"]["parquet"]["path"]) == ("codemode", "data")
