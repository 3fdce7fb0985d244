"""Manifests as users meet them: there by default, signed with a key, told of, and proved by `verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.proof.keys import load_key, new_key, write_key

MANIFESTS = Path("out/_cfaudit/manifests")


@pytest.fixture
def key(place: Path) -> tuple[str, ...]:
    """The options that name a key, and its public half in `public.pem`."""
    write_key(new_key(), place / "signing.pem")
    (place / "public.pem").write_text(load_key(place / "signing.pem").public.pem)
    return ("-o", "integrity.key_file=signing.pem")


def chain(folder: Path = MANIFESTS) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.json"))


def test_files_have_manifests_unless_they_are_switched_off(cli: Any, target: tuple[str, ...]) -> None:
    assert cli(*target, "-o", "integrity.manifests=false").code == 0
    assert not MANIFESTS.exists()
    assert cli(*target).code == 0
    assert chain() == ["00000001.json"]


def test_what_a_run_delivers_is_proved_by_the_key(cli: Any, target: tuple[str, ...], key: tuple[str, ...]) -> None:
    assert cli(*target, *key, "--since", "20d", "--until", "10d").code == 0
    assert cli(*target, *key, "--since", "20d", "--until", "5d").code == 0
    proved = cli("verify", "--data", "out", "--public-key", "public.pem")
    assert proved.code == 0, proved.out
    assert "none twice" in proved.out


def test_the_anchor_of_each_manifest_is_logged_and_in_the_status(cli: Any, target: tuple[str, ...]) -> None:
    result = cli(*target)
    logged = [json.loads(line) for line in result.err.splitlines()]
    [anchor] = [line["anchor"] for line in logged if line["message"] == "sealed"]
    [stream] = json.loads(cli("status", "--state-dir", "state", "--json").out)
    manifest = stream["sinks"]["parquet"]["manifest"]
    assert (manifest["anchor"], manifest["unsealed_batches"]) == (anchor, 0)
    assert manifest["covered"] == stream["sinks"]["parquet"]["covered"]
    assert f"newest manifest: {anchor}" in cli("status", "--state-dir", "state").out
    [report] = json.loads(cli(*target, "--json").out)
    assert report["sinks"][0]["anchor"].startswith(anchor.partition(":")[0])


def test_a_key_that_cannot_be_read_stops_before_anything_is_read(cli: Any, target: tuple[str, ...]) -> None:
    result = cli(*target, "-o", "integrity.key_file=missing.pem")
    assert result.code == 78
    assert "missing.pem" in result.err
    assert not Path("out").exists()


def test_an_older_copy_of_the_state_folder_ends_with_78_and_says_what_to_do(cli: Any, target: tuple[str, ...]) -> None:
    assert cli(*target, "--until", "10d").code == 0
    shutil.copytree("state", "copy")
    assert cli(*target).code == 0
    shutil.rmtree("state")
    Path("copy").rename("state")
    result = cli(*target)
    assert result.code == 78
    assert "restore the newest copy of the state folder, or go on with 'run --reset-proof'" in result.err
    assert cli(*target, "--reset-proof").code == 0
    assert cli(*target).code == 0


def test_manifests_in_a_folder_cannot_be_locked(cli: Any, target: tuple[str, ...]) -> None:
    locked = cli(*target, "-o", "integrity.lock_days=30")
    assert locked.code == 78
    assert "integrity.lock_days is for manifests in S3" in locked.err
