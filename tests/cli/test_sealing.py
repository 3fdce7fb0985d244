"""Manifests as users meet them: there by default, signed with a key, told of, and proved by `verify`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.parquet import read_notes, write_parquet
from cfaudit_export.proof.envelope import open_envelope
from cfaudit_export.proof.keys import load_key, new_key, write_key
from cfaudit_export.proof.statement import parse_statement

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


# -- compact ------------------------------------------------------------------------------------------


@pytest.fixture
def exported(cli: Any, target: tuple[str, ...], key: tuple[str, ...]) -> tuple[str, ...]:
    """The options of an export that made several files of each day, and sealed them."""
    small = ("-o", "sources.auditlogs.piece_rows=20", "-o", "sources.auditlogs.page_size=20")
    assert cli(*target, *key, *small, "--since", "40d", "--until", "1d").code == 0
    return (*target, *key)


def proved(cli: Any) -> tuple[int, str]:
    result = cli("verify", "--data", "out", "--public-key", "public.pem")
    return result.code, result.out


def files() -> list[Path]:
    return sorted(Path("out").rglob("*.parquet"))


def test_merged_files_are_still_proved(cli: Any, exported: tuple[str, ...], key: tuple[str, ...]) -> None:
    before = files()
    assert proved(cli)[0] == 0
    assert cli("compact", "--data", "out", *key).code == 0
    assert len(files()) < len(before)
    assert proved(cli) == (0, proved(cli)[1])
    assert "none twice" in proved(cli)[1]
    assert cli(*exported).code == 0  # the run goes on behind what `compact` wrote
    assert proved(cli)[0] == 0
    assert cli("compact", "--data", "out", *key).code == 0
    assert proved(cli)[0] == 0


def test_merged_files_of_an_unsigned_chain_are_named_too(cli: Any, target: tuple[str, ...]) -> None:
    small = ("-o", "sources.auditlogs.piece_rows=20", "-o", "sources.auditlogs.page_size=20")
    assert cli(*target, *small, "--since", "40d", "--until", "1d").code == 0
    assert cli("compact", "--data", "out").code == 0
    manifests = [
        parse_statement(open_envelope(path.read_bytes()).payload) for path in sorted(MANIFESTS.rglob("*.json"))
    ]
    merged = [one for one in manifests if one.kind == "compaction"]
    new = {replaced.new.name for one in merged for replaced in one.replaced if replaced.new}
    assert new
    assert new <= {str(path.relative_to("out")) for path in files()}
    assert cli(*target).code == 0


def test_a_file_that_was_changed_is_not_merged(cli: Any, exported: tuple[str, ...], key: tuple[str, ...]) -> None:
    path = next(one for one in files() if len(list(one.parent.iterdir())) > 1)
    table, notes = pq.read_table(path, partitioning=None), read_notes(str(path))
    index = table.schema.get_field_index("action_type")
    forged = table.set_column(index, table.schema.field(index), pa.repeat(pa.scalar("forged"), table.num_rows))
    with path.open("wb") as file:
        write_parquet(file, forged.schema, [forged], notes)
    result = cli("compact", "--data", "out", *key)
    assert result.code == 78
    assert "its bytes are not those that were exported" in result.err
    assert path.exists()


def test_a_signed_chain_is_compacted_with_its_key_only(cli: Any, exported: tuple[str, ...]) -> None:
    before = files()
    result = cli("compact", "--data", "out")
    assert result.code == 78
    assert "set integrity.key_file" in result.err
    assert files() == before


def test_what_no_manifest_names_yet_is_not_merged(cli: Any, exported: tuple[str, ...], key: tuple[str, ...]) -> None:
    shutil.rmtree(MANIFESTS)
    MANIFESTS.mkdir()
    before = files()
    assert cli("compact", "--data", "out", *key).code == 0
    assert files() == before
    assert cli("compact", "--data", "out", "-o", "integrity.manifests=false").code == 0
    assert len(files()) < len(before)


def test_files_from_a_time_without_manifests_are_merged_with_each_other_in_the_end(
    cli: Any, target: tuple[str, ...], key: tuple[str, ...]
) -> None:
    """While a run may still name them, they wait; when two whole runs have not, none will."""
    small = ("-o", "sources.auditlogs.piece_rows=20", "-o", "sources.auditlogs.page_size=20")
    off = ("-o", "integrity.manifests=false", "--since", "40d", "--until", "20d")
    assert cli(*target, *small, *off).code == 0
    before = files()
    assert cli(*target, *small, *key).code == 0
    assert cli("compact", "--data", "out", *key).code == 0
    assert {*before} <= {*files()}
    for path in before:
        an_age_ago = path.stat().st_mtime - 7_200
        os.utime(path, (an_age_ago, an_age_ago))
    assert cli("compact", "--data", "out", *key).code == 0  # one run is not enough: it may have died
    assert {*before} <= {*files()}
    assert cli(*target, *key).code == 0
    assert cli("compact", "--data", "out", *key).code == 0
    merged = {path for path in before if not path.exists()}
    assert merged
    assert all(list(path.parent.glob("merged-*")) for path in merged)


def test_a_compaction_that_died_before_it_said_so_says_so_later(
    cli: Any, exported: tuple[str, ...], key: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cfaudit_export.analysis.files.sealed.append_change", die)
        assert cli("compact", "--data", "out", *key).code != 0
    assert any(path.name.startswith("merged-") for path in files())
    assert cli("compact", "--data", "out", *key).code == 0
    assert proved(cli)[0] == 0, proved(cli)[1]
