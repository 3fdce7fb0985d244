"""Exports of a sandbox that are sealed, proved, stamped, and go on under another key: by the command line alone."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from cfaudit_export import Window
from cfaudit_export.core.intervals import union
from cfaudit_export.proof.keys import load_key
from cfaudit_export.stores.document import encode
from cfaudit_export.stores.file import FileStore
from cfaudit_sandbox import Sandbox, SandboxOptions, World

Cli = Callable[..., Any]
DAYS = 4
VERIFY = ("verify", "--data", "out")


def _load() -> Any:
    """Import the authority that tests of `proof` have; test folders are not packages."""
    path = Path(__file__).parents[1] / "proof" / "conftest.py"
    spec = importlib.util.spec_from_file_location("authority_of_proof", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


authority = _load().authority


@pytest.fixture
def run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Export what is new of a sandbox into `out`; further options may be given."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    world = World(SandboxOptions(events=120, span_seconds=DAYS * 86_400.0, seed=5))
    with Sandbox(world) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
        given = ("--server-url", sandbox.mcp_url, "--account", world.accounts[0].id, "--sink", "parquet")
        given += ("--state-dir", "state", "-o", "sinks.parquet.path=out", "-o", "sources.auditlogs.budget_calls=0")
        given += ("--recover", "off", "--since", "6d", "--settle-lag", "0s", "--source", "auditlogs")
        yield lambda *more: cli("run", *given, *more)


@pytest.fixture
def signed(cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is set, and its public half in `audit.pub`."""
    Path("audit.pub").write_text(cli("key", "new", "--out", "signing.pem").out)
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "signing.pem")


def test_runs_without_a_key_leave_a_chain_that_is_not_signed(run: Cli, cli: Cli) -> None:
    assert run().code == 0
    assert run().code == 0
    done = cli(*VERIFY)
    assert done.code == 65
    assert "INVALID" not in done.out
    assert "Signatures were not checked: no public key was given" in done.out
    next(Path("out").rglob("*.parquet")).unlink()
    assert cli(*VERIFY).code == 1


def test_runs_with_a_key_are_proved_and_what_is_changed_shows(run: Cli, cli: Cli, signed: None) -> None:
    logged = run("--log-format", "json", "-v").err
    done = cli(*VERIFY, "--public-key", "audit.pub")
    assert done.code == 0, done.out
    assert "120 events, none twice." in done.out
    assert run().code == 0
    Path("log").write_text(logged)
    done = cli(*VERIFY, "--public-key", "audit.pub", "--anchor", "log")
    assert done.code == 0, done.out
    assert "The newest anchor is of manifest 1, the newest manifest is 2" in done.out
    path = next(Path("out").rglob("*.parquet"))
    path.rename(path.with_name("x.parquet"))
    done = cli(*VERIFY, "--public-key", "audit.pub")
    assert done.code == 1
    assert len(re.findall(r"INVALID: (?:not found|no manifest names it)", done.out)) == 2


def test_a_key_is_changed_and_either_half_proves_all(
    run: Cli, cli: Cli, signed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().code == 0
    settings = ("--state-dir", "state", "-o", "sinks.parquet.path=out")
    done = cli("key", "rotate", "--out", "next.pem", *settings)
    assert done.code == 0, done.err
    assert "manifest 2 says that the key was changed" in done.err
    Path("next.pub").write_text(done.out)
    again = cli("key", "rotate", "--out", "next.pem", *settings)
    assert (again.code, again.out) == (0, done.out)
    assert len(list(Path("out/_cfaudit/manifests").rglob("*.json"))) == 2

    refused = run()
    assert refused.code == 78
    assert "if the key was changed by 'key rotate', set integrity.key_file to the new one" in refused.err
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "next.pem")
    done = run()
    assert done.code == 0, done.err
    for public in ("audit.pub", "next.pub"):
        done = cli(*VERIFY, "--public-key", public)
        assert done.code == 0, done.out
        assert "3 of 3 manifests valid" in done.out


def test_a_change_of_keys_that_was_interrupted_is_completed_by_the_same_command(
    run: Cli, cli: Cli, signed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().code == 0
    [checkpoint] = Path("state/checkpoints").glob("*.json")
    before = checkpoint.read_bytes()
    rotate = ("key", "rotate", "--out", "next.pem", "--state-dir", "state", "-o", "sinks.parquet.path=out")
    assert cli(*rotate).code == 0
    checkpoint.write_bytes(before)  # as if it had died when the chain was written, and the checkpoint not yet
    for name in ("signing.pem", "next.pem"):
        monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", name)
        refused = run()
        assert refused.code == 78
    assert "if 'key rotate' was interrupted, run it again as before" in refused.err
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "signing.pem")
    assert cli(*rotate).code == 0
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "next.pem")
    assert run().code == 0
    assert cli(*VERIFY, "--public-key", "audit.pub").code == 0


def test_a_run_without_its_key_is_refused_and_writes_nothing(
    run: Cli, cli: Cli, signed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().code == 0
    before = {path: path.read_bytes() for path in Path("state/checkpoints").glob("*.json")}
    monkeypatch.delenv("CFAUDIT_SIGNING_KEY_FILE")
    for words in ((), ("--reset-proof",)):
        refused = run(*words)
        assert refused.code == 78
        assert "is signed, and no key is set; set integrity.key_file to that key, or export without" in refused.err
    assert {path: path.read_bytes() for path in Path("state/checkpoints").glob("*.json")} == before
    assert len(list(Path("out/_cfaudit/manifests").rglob("*.json"))) == 1
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "signing.pem")
    assert run().code == 0
    assert cli(*VERIFY, "--public-key", "audit.pub").code == 0


def test_a_run_that_wants_no_manifests_needs_no_key_and_the_next_one_with_it_says_so(
    run: Cli, cli: Cli, signed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().code == 0
    monkeypatch.delenv("CFAUDIT_SIGNING_KEY_FILE")
    assert run("-o", "integrity.manifests=false").code == 0
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "signing.pem")
    refused = run()
    assert refused.code == 78
    assert "is not signed, as runs with integrity.key_file sign it" in refused.err
    assert run("--reset-proof").code == 0
    assert run().code == 0
    done = cli(*VERIFY, "--public-key", "audit.pub")
    assert "the chain begins anew at" in done.out
    assert "INVALID" not in done.out


def test_a_checkpoint_that_was_edited_by_who_has_not_the_key_is_refused(run: Cli, cli: Cli, signed: None) -> None:
    """Also where the edit looks like the work of a run that died: coverage that the next manifest would claim."""
    assert run().code == 0
    [path] = Path("state/checkpoints").glob("*.json")
    found = FileStore(path.parent).load(path.stem)
    assert found is not None
    progress = found.checkpoint.sinks["parquet"]
    more = Window(progress.covered[-1].before, progress.covered[-1].before + timedelta(minutes=1))
    proof = replace(progress.proof, covered=union(*progress.proof.covered, more), fresh=(more,))
    edited = replace(progress, covered=union(*progress.covered, more), proof=proof)
    path.write_bytes(encode(replace(found.checkpoint, sinks={"parquet": edited})))
    for refused in (run(), cli("replay", "--state-dir", "state")):
        assert refused.code == 78
        assert "was changed since it was written, as its signature shows" in refused.err


def test_what_cannot_be_rotated_is_explained(run: Cli, cli: Cli, place: Path) -> None:
    assert cli("key", "rotate", "--out", "next.pem").code == 2
    cli("key", "new", "--out", "signing.pem")
    set_key = ("-o", "integrity.key_file=signing.pem", "--state-dir", "state")
    assert cli("key", "rotate", *set_key).code == 2
    done = cli("key", "rotate", "--out", "signing.pem", *set_key)
    assert done.code == 78
    assert "the new key is the one that is set" in done.err
    assert run().code == 0  # a chain without signatures may be signed from any number on
    done = cli("key", "rotate", "--out", "next.pem", *set_key, "-o", "sinks.parquet.path=out")
    assert done.code == 0, done.err


def test_manifests_are_stamped_and_an_authority_that_is_away_changes_nothing(
    run: Cli, cli: Cli, signed: None, authority: Any
) -> None:
    done = run("-o", f"integrity.timestamp_url={authority.url}")
    assert done.code == 0, done.err
    [manifest] = Path("out/_cfaudit/manifests").rglob("*.json")
    assert manifest.with_name("00000001.json.tsr").stat().st_size > 500
    prove = (*VERIFY, "--public-key", "audit.pub", "--tsa-certificate", authority.root)
    done = cli(*prove)
    assert done.code == 0, done.out
    assert "1 manifests are stamped; number 1 at 20" in done.out
    authority.replies.append((503, b""))
    done = run("-o", f"integrity.timestamp_url={authority.url}", "--log-format", "json")
    assert done.code == 0, done.err
    said = [json.loads(line) for line in done.err.splitlines() if "not stamped" in line]
    assert [one["manifest"].rpartition("/")[2] for one in said] == ["00000002.json"]
    assert cli(*prove).code == 0


def test_the_signing_key_is_nowhere_in_what_is_said_or_written(run: Cli, cli: Cli, signed: None) -> None:
    secret = Path("signing.pem").read_text().splitlines()[1]
    said = run("-vv").err + cli("status", "--state-dir", "state", "--json").out
    assert load_key(Path("signing.pem")).id
    assert secret not in said
    for path in [*Path("out").rglob("*"), *Path("state").rglob("*")]:
        assert path.is_dir() or secret.encode() not in path.read_bytes()
