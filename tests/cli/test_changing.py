"""`retention` and `erase`: they say what they would do, do it, and `verify` says that it was on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export.proof.envelope import open_envelope
from cfaudit_export.proof.statement import parse_statement
from cfaudit_sandbox import Sandbox, SandboxOptions, World

Cli = Callable[..., Any]


@pytest.fixture
def export_signed(cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Export four days, signed, with further options."""

    def export(*more: str) -> Path:
        return _exported(cli, monkeypatch, *more)

    return export


@pytest.fixture
def out(export_signed: Callable[..., Path]) -> Path:
    """An export of four days, signed."""
    return export_signed()


def _exported(cli: Cli, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    Path("audit.pub").write_text(cli("key", "new", "--out", "signing.pem").out)
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "signing.pem")
    world = World(SandboxOptions(events=120, span_seconds=4 * 86_400.0, seed=5))
    with Sandbox(world) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
        words = (
            "--server-url",
            sandbox.mcp_url,
            "--account",
            world.accounts[0].id,
            "--sink",
            "parquet",
            "--since",
            "6d",
        )
        settings = ("-o", "sinks.parquet.path=out", "-o", "sources.auditlogs.budget_calls=0", "--settle-lag", "0s")
        assert cli("run", *words, *settings, "--state-dir", "state", "--recover", "off", *more).code == 0
    return Path("out")


def emails(out: Path) -> list[str]:
    tables = [pq.read_table(path, columns=["actor_email"], partitioning=None) for path in out.rglob("*.parquet")]
    return [one for table in tables for one in table["actor_email"].to_pylist() if one]


def test_a_person_is_erased(cli: Cli, out: Path) -> None:
    person = emails(out)[0]
    count = emails(out).count(person)
    would = cli("erase", "--data", "out", "--identity", person, "--dry-run")
    assert would.code == 0, would.err
    assert f"{count} events in " in would.err
    assert person in emails(out)
    done = cli("erase", "--data", "out", "--identity", person, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (sum(one["events"] for one in told["erased"]), told["left"]) == (count, [])
    assert person not in emails(out)
    proved = cli("verify", "--data", "out", "--public-key", "audit.pub")
    assert proved.code == 0, proved.out
    assert f"Erased on purpose: something of {count} events in " in proved.out
    assert cli("erase", "--data", "out", "--identity", person).err == "no event names the person\n"


def test_with_an_identity_key_what_was_erased_is_proved_against_what_was_sealed_before(
    cli: Cli, export_signed: Callable[..., Path]
) -> None:
    assert cli("key", "identity", "--out", "identity.key").code == 0
    out = export_signed("-o", "identity.key_file=identity.key")
    tables = [pq.read_table(path, partitioning=None) for path in out.rglob("*.parquet")]
    assert all(len(nonce) == 64 for table in tables for nonce in table["body_nonce"].to_pylist())
    person = emails(out)[0]
    assert cli("erase", "--data", "out", "--identity", person).code == 0
    proved = cli("verify", "--data", "out", "--public-key", "audit.pub")
    assert proved.code == 0, proved.out
    manifests = [open_envelope(path.read_bytes()).payload for path in out.rglob("00000002.json")]
    [record] = [parse_statement(one) for one in manifests]
    assert record.erased
    assert all(one.leaf for one in record.erased)


def test_old_days_are_removed(cli: Cli, out: Path) -> None:
    files = len(list(out.rglob("*.parquet")))
    would = cli("retention", "--data", "out", "--older-than", "2d", "--dry-run")
    assert "would be removed" in would.err
    assert len(list(out.rglob("*.parquet"))) == files
    done = cli("retention", "--data", "out", "--older-than", "2d")
    assert done.code == 0, done.err
    assert "removed, as manifest 2 says" in done.err
    assert 0 < len(list(out.rglob("*.parquet"))) < files
    proved = cli("verify", "--data", "out", "--public-key", "audit.pub")
    assert proved.code == 0, proved.out
    assert "Removed on purpose: " in proved.out
    assert cli("retention", "--data", "out", "--older-than", "2d").err == "nothing to remove\n"
    assert json.loads(cli("retention", "--data", "out", "--older-than", "2d", "--json").out) == {
        "removed": [],
        "left": [],
    }


def test_what_was_changed_is_left_and_said(cli: Cli, out: Path) -> None:
    path = min(out.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for words in (("retention", "--older-than", "2d"), ("erase", "--identity", "nobody@example.com")):
        done = cli(words[0], "--data", "out", *words[1:])
        assert done.code == 1
        assert "its bytes are not those that were exported" in done.err
    assert path.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("retention", "--data", "."), "say which days, as in --older-than 400d"),
        (("retention", "--data", ".", "--older-than", "soon"), "--older-than: expected a duration"),
        (("retention", "--data", ".", "--older-than", "1h"), "--older-than must be at least 1d"),
        (("erase", "--data", "."), "say whose events, as in --identity"),
        (("erase", "--data", ".", "--identity", "eve"), "is too short"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, place: Path, words: tuple[str, ...], why: str) -> None:
    done = cli(*words)
    assert done.code == 2
    assert why in done.err
