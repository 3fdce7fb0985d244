"""A secret for the keys of events, and what commands show of names, from the settings to the exported rows."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Cli = Callable[..., Any]
RUN = ("--since", "2020-01-01", "--log-format", "text", "-o", "sources.auditlogs.budget_calls=0")
DAY = ("--since", "2020-01-01", "--log-format", "text", "--format", "ndjson", "-n", "20")


def rows(place: Path) -> list[dict[str, Any]]:
    return [row for path in place.rglob("*.parquet") for row in pq.read_table(path, partitioning=None).to_pylist()]


@pytest.fixture
def redacting(place: Path) -> Path:
    """Write a settings file that redacts."""
    secret = base64.b64encode(bytes(range(32))).decode()
    keys = Path("keys.toml")
    keys.write_text(f'[[key]]\nid = 1\nfrom = 2020-01-01T00:00:00Z\nsecret = "{secret}"\n')
    keys.chmod(0o600)
    path = Path("private.toml")
    path.write_text('transform = ["redact"]\n[transforms.redact]\npreset = "pseudonyms"\nkeys_file = "keys.toml"\n')
    return path


def test_an_identity_key_is_made_once_and_known_by_its_id(cli: Cli, place: Path) -> None:
    done = cli("key", "identity", "--out", "identity.key")
    assert done.code == 0
    assert stat.S_IMODE(Path("identity.key").stat().st_mode) == 0o600
    assert len(done.out.strip()) == 8
    assert Path("identity.key").read_text().strip() not in done.out + done.err
    again = cli("key", "identity", "--out", "identity.key")
    assert (again.code, again.out) == (78, "")
    assert cli("key", "identity").code == 2
    assert json.loads(cli("key", "identity", "--out", "other.key", "--json").out)["id"] != done.out.strip()


def test_a_stream_keeps_the_identity_key_that_it_was_begun_with(cli: Cli, target: tuple[str, ...], place: Path) -> None:
    id_ = cli("key", "identity", "--out", "identity.key").out.strip()
    keyed = ("-o", "identity.key_file=identity.key")
    done = cli("run", *target, *RUN, *keyed)
    assert done.code == 0, done.err
    had = {row["event_key"] for row in rows(Path("out"))}
    assert f"identity key: {id_}" in cli("status", "--state-dir", "state").out
    assert json.loads(cli("status", "--state-dir", "state", "--json").out)[0]["identity_key"] == id_
    refused = cli("run", *target, *RUN)
    assert refused.code == 78
    assert f"was begun with identity key {id_}" in refused.err
    assert {row["event_key"] for row in rows(Path("out"))} == had


def test_names_are_not_hidden_where_the_keys_of_events_give_them_away(
    cli: Cli, target: tuple[str, ...], redacting: Path
) -> None:
    done = cli("run", *target, *RUN, "--config", redacting)
    assert done.code == 78
    assert "transform 'redact' hides actor_email, but event_key is computed from it and can be guessed back" in done.err
    assert not rows(Path("out"))


def test_what_is_shown_of_the_server_is_redacted_too(cli: Cli, target: tuple[str, ...], redacting: Path) -> None:
    cli("key", "identity", "--out", "identity.key")
    private = ("--config", redacting, "-o", "identity.key_file=identity.key")
    done = cli("run", *target, *RUN, *private)
    assert done.code == 0, done.err
    exported = {row["event_id"]: row["actor_email"] for row in rows(Path("out"))}
    assert all(name is None or name.startswith("p1_") for name in exported.values())
    source = target[:4]
    shown = [json.loads(line) for line in cli("events", *source, *DAY, *private).out.splitlines()]
    assert len(shown) == 20
    assert {row["event_id"]: row["actor_email"] for row in shown}.items() <= exported.items()
    assert not any("@" in json.dumps(row) for row in shown)
    plain = [json.loads(line) for line in cli("events", *source, *DAY, *private, "--plain").out.splitlines()]
    assert [row["event_id"] for row in plain] == [row["event_id"] for row in shown]
    assert any("@" in (row["actor_email"] or "") for row in plain)
