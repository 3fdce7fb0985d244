"""A person is erased on record: no file names them, and everything else is still proved to be what was exported."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.analysis.files.compact import compact
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.files.sealed import sealed_files
from cfaudit_export.analysis.removal.erase import ErasedFile, UnerasedFile, erase
from cfaudit_export.analysis.removal.person import Person, find_person
from cfaudit_export.analysis.removal.rewrite import rewritten
from cfaudit_export.analysis.removal.storage import ASIDE
from cfaudit_export.errors import UsageError
from cfaudit_export.parquet import read_notes, write_parquet
from cfaudit_export.proof.append import newest_entry
from cfaudit_export.proof.folder import ManifestFolder
from cfaudit_export.proof.rows import BODIES, KEPT, NONCE, leaves

EVE = "eve@example.com"
ROWS = 20
NAMED = (3, 4, 11)  # rows that eve did
MEANT = 7  # a row that another user did to eve
OF_EVE = ("actor_email", "actor_id", "actor_ip_address", "actor_token_id", "actor_token_name", "raw_user_agent")


def changes() -> dict[str, list[Any]]:
    """Return columns in which eve is: as an actor, and in a body."""
    emails = [EVE.upper() if row == 4 else EVE if row in NAMED else f"st{EVE}" for row in range(ROWS)]
    raw = [json.dumps({"actor": {"email": emails[row]}, "n": row}) for row in range(ROWS)]
    request = [json.dumps({"invite": EVE if row == MEANT else f"{EVE}.uk"}) for row in range(ROWS)]
    return {"actor_email": emails, "event_raw": raw, "resource_request": request}


@pytest.fixture
def erased(working: Callable[..., Any]) -> Callable[..., list[Any]]:
    def run(export: Any, *identities: str, **more: Any) -> list[Any]:
        return list(erase(*working(export, **more), Person(identities or (EVE,))))

    return run


def table(export: Any, number: int = 0) -> pa.Table:
    return pq.read_table(export.files()[number], partitioning=None)


def newest(export: Any) -> Any:
    entry = newest_entry(ManifestFolder(export.root / "_cfaudit/manifests"), export.chain)
    assert entry is not None
    return entry.manifest


def seal_with_eve(export: Any) -> pa.Table:
    export.seal(export.store(0, rows=ROWS, **changes()))
    export.days(2, start=1)
    return table(export)


def test_a_person_is_in_no_file_any_more_and_all_else_is_as_it_was(export: Any, erased: Any) -> None:
    before, notes = seal_with_eve(export), read_notes(str(export.files()[0]))
    others = [path.read_bytes() for path in export.files()[1:]]
    [done] = erased(export)
    assert (done.name, done.events, done.sequence) == (export.name(export.files()[0]), len(NAMED) + 1, 4)
    after = table(export)
    for name in before.column_names:
        was, now = before[name].to_pylist(), after[name].to_pylist()
        touched = (*NAMED, MEANT) if name in BODIES else NAMED if name in (*OF_EVE, "raw_cf_ray_id") else ()
        assert now == [None if row in touched else value for row, value in enumerate(was)], name
    assert not find_person(after, Person((EVE,))).count
    assert read_notes(str(export.files()[0])) == notes
    assert [path.read_bytes() for path in export.files()[1:]] == others
    assert not list((export.root / ASIDE).glob("*"))
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    assert "Erased on purpose: something of 4 events in 1 file (manifest 00000004 of " in "\n".join(found.lines)
    assert erased(export) == []


def test_the_record_does_not_give_the_person_away(export: Any, erased: Any) -> None:
    """Neither by name, nor by a digest of a row of which only the name is unknown."""
    before = seal_with_eve(export)
    erased(export)
    text = export.path(4).read_bytes().decode() + json.dumps([str(newest(export))])
    assert EVE not in str(newest(export)).lower()
    for leaf in leaves(before):
        assert leaf.hex() not in text
    assert {one.leaf for one in newest(export).erased} == {None}
    assert [one.event_id for one in newest(export).erased] == [before["event_id"][at].as_py() for at in (3, 4, 7, 11)]
    assert set(newest(export).erased[0].columns) >= {"actor_email", "event_raw"}


def test_what_is_wrong_beside_an_erasure_shows(export: Any, erased: Any) -> None:
    """A row that was taken out, or added, by who rewrote the file is not covered by the record of an erasure."""
    seal_with_eve(export)
    erased(export)
    path = export.files()[0]
    pq.write_table(table(export).slice(1), path)
    assert export.verify().exit_code == 1
    path.unlink()
    found = export.verify()
    assert found.exit_code == 1
    assert f"{export.name(path)}  INVALID: not found" in list(found.lines)


def test_an_older_copy_of_a_file_is_told_from_one_that_was_changed(export: Any, erased: Any, copied: Any) -> None:
    seal_with_eve(export)
    old = copied(export, "old")
    erased(export)
    shutil.copy(old.files()[0], export.files()[0])
    found = export.verify()
    assert found.exit_code == 65
    said = "\n".join(found.lines)
    assert (
        ": has what a record says was erased: run 'cfaudit-export erase' again, or an older copy was restored" in said
    )
    assert "INVALID" not in said
    [left] = erased(export)
    assert isinstance(left, UnerasedFile)
    assert left.is_wrong


def test_files_with_erased_rows_are_merged_and_stay_proved(export: Any, erased: Any) -> None:
    export.seal(export.store(0, rows=ROWS, **changes()), export.store(0, seed=7))
    erased(export)
    sealed = sealed_files(export.root, export.keys, export.clock)
    now = export.clock + timedelta(days=9)
    [done] = compact(open_location(str(export.root)), now=now, settled=timedelta(), sealed=sealed)
    assert done.merged == 2
    assert export.verify().exit_code == 0, list(export.verify().lines)
    [again] = erased(export, "user3@example.com")
    assert "merged-" in again.name
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    assert find_person(table(export), Person(("user3@example.com",))).count == 0


def test_what_was_merged_is_erased_by_batch(export: Any, erased: Any) -> None:
    export.seal(export.store(0, rows=ROWS, **changes()), export.store(0, seed=7))
    sealed = sealed_files(export.root, export.keys, export.clock)
    now = export.clock + timedelta(days=9)
    list(compact(open_location(str(export.root)), now=now, settled=timedelta(), sealed=sealed))
    erased(export)
    assert export.verify().exit_code == 0, list(export.verify().lines)
    assert {one.batch_id for one in newest(export).erased} < {
        part.batch_id for part in newest(export).replaced[0].parts
    }


def test_a_dry_run_changes_nothing_and_names_who_else_that_is(export: Any, erased: Any) -> None:
    export.seal(export.store(0, rows=ROWS, **changes(), actor_id=[f"id-of-{row % 7}" for row in range(ROWS)]))
    before = {path: path.read_bytes() for path in export.root.rglob("*") if path.is_file()}
    [would] = erased(export, dry_run=True)
    assert (would.events, would.sequence) == (4, None)
    assert {"id-of-3", "id-of-4", EVE} <= set(would.others)
    assert {path: path.read_bytes() for path in export.root.rglob("*") if path.is_file()} == before


def test_what_cannot_be_erased_on_record_is_told(export: Any, erased: Any) -> None:
    seal_with_eve(export)
    one, other, third = export.files()
    shutil.copy(one, other.with_name("x.parquet"))  # no manifest names it
    third.write_bytes(third.read_bytes()[:-1] + b"x")
    found = erased(export)
    assert [type(one) for one in found] == [UnerasedFile, ErasedFile, UnerasedFile]
    assert (found[0].why, found[0].is_wrong) == ("its bytes are not those that were exported", True)
    assert "no manifest names it" in found[2].why
    assert not found[2].is_wrong


# -- bodies with a nonce ------------------------------------------------------------------------------


def salted(export: Any) -> pa.Table:
    """Seal a file whose rows have a nonce, as runs with an identity key write them."""
    entry = export.store(0, rows=ROWS, **changes())
    path = export.files()[0]
    rows, notes = table(export), read_notes(str(path))
    nonces = pa.array([f"{row:064x}" for row in range(ROWS)])
    rows = rows.set_column(rows.column_names.index(NONCE), NONCE, nonces)
    with path.open("wb") as file:
        written = write_parquet(file, rows.schema.remove_metadata(), [rows], notes)
    from dataclasses import replace

    from cfaudit_export.core.model import StoredFile
    from cfaudit_export.proof.rows import rows_sha256

    stored = StoredFile(export.name(path), written.bytes, written.sha256, ROWS)
    export.seal(replace(entry, rows_sha256=rows_sha256(leaves(rows)), files=(stored,)))
    return rows


def test_rows_with_a_nonce_are_proved_against_what_was_sealed_before(export: Any, erased: Any) -> None:
    """Their leaves tell nothing any more, and so are kept: even who has the key cannot change another row."""
    before = salted(export)
    erased(export)
    entries = {one.event_id: one for one in newest(export).erased}
    ids = before["event_id"].to_pylist()
    assert {entries[ids[at]].leaf for at in NAMED} == {leaves(before)[at].hex() for at in NAMED}
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    after = table(export)
    assert [after[NONCE][at].as_py() for at in (*NAMED, MEANT)] == [None] * 4
    # Of the row in which only a body named eve, digests of the bodies are kept, and so its leaf can be made.
    assert after[KEPT].is_valid().to_pylist() == [row == MEANT for row in range(ROWS)]
    assert leaves(after)[MEANT] == leaves(before)[MEANT]


def test_who_has_the_key_cannot_change_another_row_with_an_erasure(
    export: Any, erased: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cfaudit_export.analysis.removal.erase as module

    def changing(content: bytes, *args: Any, **more: Any) -> Any:
        rows = pq.read_table(io.BytesIO(content), partitioning=None)
        at = rows.column_names.index("action_type")
        lied = rows.set_column(at, "action_type", pa.array(["view"] * len(rows)))
        target = io.BytesIO()
        write_parquet(target, rows.schema.remove_metadata(), [lied], {})
        return rewritten(target.getvalue(), *args, **more)

    monkeypatch.setattr(module, "rewritten", changing)
    salted(export)
    erased(export)
    assert any("its rows are not those that were exported" in line for line in export.verify().lines)


# -- whom an identity names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("eve@example.com", True),
        ("Invited Eve@Example.COM.", True),
        ("https://dash/?who=eve%40example.com&x", True),
        ("/users/%3Deve%40example.com%26", True),
        ('{"a":"\\neve@example.com"}', True),
        (r'{"a":"\neve@example.com","b":"\u003ceve@example.com\u003e"}', True),
        ("steve@example.com", False),
        ("eve@example.com.uk", False),
        ("eve@example.community", False),
        ("big.eve@example.com", False),
        ("eve+list@example.com", False),
        ("eve at example.com", False),
    ],
)
def test_an_identity_is_found_as_a_whole_word(text: str, names: object) -> None:
    events = pa.table({"event_id": ["1"], "action_description": [text]})
    assert find_person(events, Person((EVE,))).count == (names is True)


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_identity_between_two_spaces_is_found_in_any_text(before: str, behind: str) -> None:
    events = pa.table(
        {"event_id": ["1"], "raw_uri": pa.array([f"{before} {EVE} {behind}".encode(errors="replace").decode()])}
    )
    assert find_person(events, Person((EVE,))).count == 1


def test_identities_that_would_be_in_events_of_others_are_refused() -> None:
    for identities in ((), ("eve",), ("  a  ",)):
        with pytest.raises(UsageError):
            Person(identities)


# -- a crash at each step -----------------------------------------------------------------------------


class _CrashError(BaseException):
    pass


class Crashing:
    """A storage that dies before one of its calls."""

    def __init__(self, storage: Any, left: int) -> None:
        self.storage = storage
        self.left = left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.storage, name)
        if not callable(found):
            return found

        def call(*args: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise _CrashError
            return found(*args)

        return call


def test_a_crash_before_any_step_is_put_right_by_the_next_run(export: Any, working: Any, copied: Any) -> None:
    from cfaudit_export.analysis.removal.storage import FolderStorage

    seal_with_eve(export)
    export.seal(export.store(3, rows=ROWS, **changes()))
    crashes = 0
    while True:
        copy = copied(export, f"copy-{crashes}")
        trusted, work = working(copy, Crashing(FolderStorage(copy.root), crashes))
        try:
            list(erase(trusted, work, Person((EVE,))))
            break
        except _CrashError:
            pass
        found = copy.verify()
        assert found.exit_code in (0, 65), list(found.lines)
        assert "INVALID" not in "\n".join(found.lines)
        list(erase(*working(copy), Person((EVE,))))
        assert copy.verify().exit_code == 0, list(copy.verify().lines)
        assert sum(find_person(table(copy, at), Person((EVE,))).count for at in range(4)) == 0
        assert not list((copy.root / ASIDE).glob("*"))
        assert sum(one.erased for one in _records(copy)) == 8
        crashes += 1
    assert crashes >= 12


def _records(export: Any) -> list[Any]:
    from cfaudit_export.analysis.verify.expected import expect
    from cfaudit_export.analysis.verify.records import read_records

    return expect(read_records(open_location(str(export.root))).chains, alone=True).removals


def test_permissions_of_a_file_stay(export: Any, erased: Any) -> None:
    seal_with_eve(export)
    path = Path(export.files()[0])
    path.chmod(0o640)
    erased(export)
    assert path.stat().st_mode & 0o777 == 0o640
