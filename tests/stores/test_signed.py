"""Checkpoints that are signed: what is saved is believed, what was edited is not, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cfaudit_export import Checkpoint, Stream, Window
from cfaudit_export.core.model import Gap, Lateness, SinkProgress
from cfaudit_export.core.seal import sealed
from cfaudit_export.errors import CheckpointDamagedError, SettingsError
from cfaudit_export.proof.keys import new_key
from cfaudit_export.stores.file import FileStore
from cfaudit_export.stores.signed import SignedStore
from cfaudit_export.testing.store_contract import _checkpoint

AT = datetime(2026, 11, 1, 10, 0, 0, 123_000, tzinfo=UTC)
STREAM = Stream("account", "auditlogs", (("actor", "x"),))
HOUR = Window(AT, AT.replace(hour=11))
# With half a surrogate pair, which UTF-8 cannot hold, and numbers that are no whole ones.
CHECKPOINT = Checkpoint(
    STREAM,
    {"parquet": SinkProgress((HOUR,), rows=7)},
    (Gap(HOUR, 1, "result[0]: \ud800 \u2028 é", AT, AT),),
    Lateness(3, 1.1, {1: 2, -1: 1}),
    updated_at=AT,
)


def test_a_checkpoint_with_all_that_there_may_be_in_it_is_believed(tmp_path: Path) -> None:
    store, rich = SignedStore(FileStore(tmp_path), (new_key(),)), _checkpoint(1, 5)
    version = store.save(rich, expected=None)
    found = store.load(rich.stream.id)
    assert found
    assert (replace(found.checkpoint, signature=rich.signature), found.version) == (rich, version)


def test_what_was_saved_is_believed_by_the_key_and_by_no_other(tmp_path: Path) -> None:
    key, other = new_key(), new_key()
    store = SignedStore(FileStore(tmp_path), (key,))
    version = store.save(CHECKPOINT, expected=None)
    found = store.load(STREAM.id)
    assert found
    assert (found.version, found.checkpoint.sinks) == (version, CHECKPOINT.sinks)
    store.save(found.checkpoint, expected=version)
    assert SignedStore(FileStore(tmp_path), (other, key)).load(STREAM.id)
    with pytest.raises(SettingsError, match="is signed by another key than the one that is set"):
        SignedStore(FileStore(tmp_path), (other,)).load(STREAM.id)
    with pytest.raises(SettingsError, match="is signed, and no key is set"):
        SignedStore(FileStore(tmp_path)).load(STREAM.id)


def test_an_edit_whose_author_mended_the_digest_is_noticed(tmp_path: Path) -> None:
    store = SignedStore(FileStore(tmp_path), (new_key(),))
    store.save(replace(CHECKPOINT, gaps=()), expected=None)
    path = tmp_path / f"{STREAM.id}.json"
    tree = json.loads(path.read_text("utf-8"))
    del tree["digest"]
    for edit in ({"leased": [str(HOUR)]}, {"signature": tree["signature"][:70] + "!"}, {"gaps": []}):
        path.write_bytes(sealed(json.dumps(tree | edit, indent=2, ensure_ascii=False).encode()))
        if edit == {"gaps": []}:  # as it was
            assert store.load(STREAM.id)
            continue
        with pytest.raises(CheckpointDamagedError, match="as its signature shows; restore it from a backup"):
            store.load(STREAM.id)


def test_a_checkpoint_without_a_signature_is_passed_on(tmp_path: Path) -> None:
    """Whether there may be one is for the manifests to say."""
    FileStore(tmp_path).save(CHECKPOINT, expected=None)
    assert SignedStore(FileStore(tmp_path), (new_key(),)).load(STREAM.id)
    assert SignedStore(FileStore(tmp_path)).load(STREAM.id)
