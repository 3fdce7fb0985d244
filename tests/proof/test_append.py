"""The end of a chain: read, and one manifest written behind it, also where others write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SinkRefusedError, Stream
from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.append import append, name_of, newest_entry, read_entry, write_entry
from cfaudit_export.proof.chain import Link, chain_of
from cfaudit_export.proof.folder import ManifestFolder
from cfaudit_export.proof.keys import new_key
from cfaudit_export.proof.manifest import Manifest

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
STREAM = Stream("0f3c1e5a7b9d2468ace013579bdf2468", "auditlogs")
CHAIN = chain_of(STREAM.id, "parquet")


def manifest(link: Link | None, before: Manifest | None = None, **says: Any) -> Manifest:
    return Manifest(
        kind=says.pop("kind", "compaction"),
        chain=says.pop("chain", CHAIN),
        sequence=link.sequence + 1 if link else 1,
        previous=link.sha256 if link else None,
        stream=STREAM,
        sink="parquet",
        location="out",
        sealed_at=NOW,
        program="1",
        schema_version=1,
        **says,
    )


@pytest.fixture
def store(tmp_path: Path) -> ManifestFolder:
    return ManifestFolder(tmp_path / "manifests")


def chain(store: ManifestFolder) -> list[int]:
    """Return the numbers of a chain in which each follows the one before."""
    numbers: list[int] = []
    link = None
    while entry := read_entry(store, CHAIN, len(numbers) + 1):
        assert entry.follows(link)
        link = entry.link
        numbers.append(entry.link.sequence)
    return numbers


def test_what_is_appended_follows_what_is_there(store: ManifestFolder) -> None:
    assert newest_entry(store, CHAIN) is None
    links = [append(store, CHAIN, manifest) for _ in range(3)]
    assert chain(store) == [1, 2, 3]
    newest = newest_entry(store, CHAIN)
    assert newest is not None
    assert newest.link == links[-1]


def test_of_many_that_append_at_once_each_gets_a_number_of_its_own(store: ManifestFolder) -> None:
    with ThreadPoolExecutor(8) as pool:
        links = list(pool.map(lambda one: append(store, CHAIN, partial(manifest, reason=str(one))), range(16)))
    assert sorted(link.sequence for link in links) == list(range(1, 17))
    assert chain(store) == list(range(1, 17))


def test_what_stands_is_not_written_over(store: ManifestFolder) -> None:
    first = manifest(None)
    link = write_entry(store, first)
    assert link is not None
    assert write_entry(store, first) == link  # only the answer was lost
    assert write_entry(store, manifest(None, reason="another")) is None
    assert chain(store) == [1]


def test_a_signed_chain_is_not_gone_on_with_behind_what_others_wrote(store: ManifestFolder) -> None:
    ours, theirs = new_key(), new_key()
    append(store, CHAIN, manifest)
    append(store, CHAIN, manifest)
    append(store, CHAIN, manifest, [ours])  # a chain may be signed from any number on
    for keys in ([theirs], []):
        newest = newest_entry(store, CHAIN, [ours])
        assert newest is not None
        forged = write_entry(store, manifest(newest.link), keys)
        assert forged is not None
        with pytest.raises(SettingsError, match="not signed by the key that is set"):
            append(store, CHAIN, manifest, [ours])
        (store.root / name_of(CHAIN, forged.sequence)).unlink()
    append(store, CHAIN, manifest, [ours])


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"null"])
def test_a_manifest_that_is_none_is_an_error_with_its_name(store: ManifestFolder, content: bytes) -> None:
    store.put_manifest(name_of(CHAIN, 1), content)
    with pytest.raises(SettingsError, match=r"00000001\.json' cannot be read: .*; restore it"):
        newest_entry(store, CHAIN)


def test_a_manifest_under_the_name_of_another_is_an_error(store: ManifestFolder) -> None:
    write_entry(store, manifest(None))
    document = store.get_manifest(name_of(CHAIN, 1))
    assert document is not None
    store.put_manifest(name_of(CHAIN, 2), document)
    with pytest.raises(SettingsError, match="is another one that was put there"):
        newest_entry(store, CHAIN)


def test_a_folder_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkRefusedError, match="is a file, not a folder; set another path"):
        ManifestFolder(tmp_path / "file").put_manifest(name_of(CHAIN, 1), b"x")
