"""What an attacker with write access can do, and what shows it; and a program of others that must say the same."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export import Window
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.removal.erase import erase
from cfaudit_export.analysis.removal.person import Person
from cfaudit_export.analysis.removal.record import Work
from cfaudit_export.analysis.removal.storage import FolderStorage
from cfaudit_export.analysis.removal.trusted import require_trusted_chains
from cfaudit_export.core.model import StoredFile
from cfaudit_export.proof.chain import Anchor
from cfaudit_export.proof.keys import new_key
from cfaudit_export.proof.manifest import BatchPart, ErasedEntry, KeyEntry, Replacement

AUDITOR = Path(__file__).with_name("auditor.py")
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
DAY_4 = Window(FIRST + timedelta(days=3), FIRST + timedelta(days=4))


@dataclass(frozen=True)
class Attack:
    """What is done to an export of four days, and lines that are then said."""

    do: Callable[[Any], object]
    shows: tuple[str, ...]
    code: int = 1


def flip(export: Any) -> None:
    path = export.files()[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(export: Any) -> None:
    """Change a row, and write a file that is whole."""
    path = export.files()[1]
    table = pq.read_table(path, partitioning=None)
    column = table["actor_email"].to_pylist()
    column[0] = "somebody-else@example.com"
    pq.write_table(table.set_column(table.column_names.index("actor_email"), "actor_email", [column]), path)


def delete(export: Any) -> None:
    export.files()[1].unlink()


def add(export: Any) -> None:
    shutil.copy(export.files()[1], export.files()[1].with_name("x.parquet"))


def swap(export: Any) -> None:
    one, other = export.files()[1:3]
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def swap_manifests(export: Any) -> None:
    one, other = export.path(2), export.path(3)
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def edit(export: Any) -> None:
    export.edit(2, quarantined=0, gaps_open=7)


def remove_manifest(export: Any) -> None:
    export.path(2).unlink()


def sign_again(export: Any) -> None:
    """Remove a file, and sign a manifest without it by another key."""
    export.files()[3].unlink()
    export.back_to(3)
    export.append(export.manifest(covered=[DAY_4]), [new_key()])


def strip(export: Any) -> None:
    """Take the signature off the newest manifest."""
    export.back_to(3)
    export.append(export.manifest(export.store(3)), [])


def hole(export: Any) -> None:
    export.seal(export.store(6))


def double(export: Any) -> None:
    """Export two events of the fourth day again, in another batch."""
    ids = pq.read_table(export.files()[3], columns=["event_id"], partitioning=None)["event_id"].to_pylist()
    export.seal(export.store(3, rows=2, seed=99, event_id=ids[4:6]))


def forge_retention(export: Any, keys: tuple[Any, ...] | None = None) -> None:
    """Remove a file, and write a record that this was on purpose; without the key."""
    path = export.files()[1]
    content = path.read_bytes()
    batch = BatchPart(path.stem, 20, None)
    old = StoredFile(export.name(path), len(content), hashlib.sha256(content).hexdigest(), 20)
    path.unlink()
    removed = (Replacement((old,), None, (batch,)),)
    export.append(export.manifest(kind="retention", replaced=removed, reason="older than a year"), keys or [new_key()])


def forge_erasure(export: Any) -> None:
    """Change a row, and write a record that something of it was erased; without the key."""
    path = export.files()[1]
    content = path.read_bytes()
    old = StoredFile(export.name(path), len(content), hashlib.sha256(content).hexdigest(), 20)
    rewrite(export)
    content = path.read_bytes()
    new = replace(old, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    event_id = pq.read_table(path, columns=["event_id"], partitioning=None)["event_id"][0].as_py()
    changed = (Replacement((old,), new, (BatchPart(path.stem, 20, None),)),)
    erased = (ErasedEntry(event_id, path.stem, ("actor_email",)),)
    export.append(export.manifest(kind="retention", replaced=changed, erased=erased), [])


def other_key(export: Any) -> None:
    export.append(export.manifest(), [new_key()])


def retired_key(export: Any) -> None:
    old, new = export.keys[0], new_key()
    export.append(export.manifest(kind="key", key=KeyEntry(old.public.pem, new.public.pem)), [old, new])
    export.append(export.manifest(), [new])
    export.append(export.manifest(), [old])


def clock_back(export: Any) -> None:
    export.clock -= timedelta(days=2)
    export.seal()


def two_writers(export: Any) -> None:
    """Go on from manifest 3 with another state folder, over what the first one wrote."""
    export.seal()
    other = replace(export)
    other.back_to(3)
    other.append(other.manifest(covered=[DAY_4]))


ATTACKS = {
    "flip": Attack(flip, ("{1}  INVALID: its bytes are not those that were exported",)),
    "rewrite": Attack(rewrite, ("{1}  INVALID: its bytes are not those that were exported",)),
    "delete": Attack(delete, ("{1}  INVALID: not found",)),
    "add": Attack(add, ("account_id={a}/event_date=2026-11-02/x.parquet  INVALID: no manifest names it",)),
    "swap": Attack(swap, ("{1}  INVALID: its bytes are not", "{2}  INVALID: its bytes are not")),
    "swap manifests": Attack(
        swap_manifests,
        (
            "Manifest 00000002  INVALID: has been moved from its place, which is {c}, number 3",
            "Manifest 00000003  INVALID: has been moved from its place, which is {c}, number 2",
        ),
    ),
    "edit": Attack(
        edit,
        (
            "Manifest 00000002  INVALID: signature verification failed",
            "Manifest 00000003  INVALID: does not follow manifest 2",
        ),
    ),
    "remove a manifest": Attack(remove_manifest, ("Manifest 00000002  INVALID: not found",)),
    "sign again": Attack(sign_again, ("Manifest 00000004  INVALID: signature verification failed (key ",)),
    "strip": Attack(strip, ("Manifest 00000004  INVALID: not signed",)),
    "hole in coverage": Attack(
        hole, ("Not covered: 2026-11-05T00:00:00.000Z to 2026-11-07T00:00:00.000Z (never exported)",), 65
    ),
    "other key": Attack(other_key, ("Manifest 00000005  INVALID: signature verification failed (key ",)),
    "retired key": Attack(
        retired_key, ("Manifest 00000007  INVALID: signature verification failed (key {k}… was retired by manifest 5)",)
    ),
    "forged retention": Attack(
        forge_retention,
        ("Manifest 00000005  INVALID: signature verification failed (key ", "{1}  INVALID: not found"),
    ),
    "forged erasure": Attack(
        forge_erasure,
        ("Manifest 00000005  INVALID: not signed", "{1}  INVALID: its bytes are not those that were exported"),
    ),
    "double": Attack(double, ("Event ",)),
    "clock back": Attack(
        clock_back, ("Manifest 00000005: dated before manifest 4, by 1d 23h: a clock was turned back",), 65
    ),
    "two writers": Attack(two_writers, ("Manifest 00000005  INVALID: does not follow manifest 4",)),
}


def rotate(export: Any) -> None:
    """Hand over to a new key, and go on with it."""
    old, new = export.keys[0], new_key()
    export.append(export.manifest(kind="key", key=KeyEntry(old.public.pem, new.public.pem)), [old, new])
    export.append(export.manifest(), [new])
    export.keys = (old, new)


def erase_with_key(export: Any) -> None:
    """Erase an actor on record, as the command does."""
    keys = export.keys
    trusted = require_trusted_chains(open_location(str(export.root)), keys)
    work = Work(FolderStorage(export.root), keys, lambda: export.clock)
    emails = pq.read_table(export.files()[1], columns=["actor_email"], partitioning=None)["actor_email"].to_pylist()
    assert list(erase(trusted, work, Person((next(one for one in emails if one),))))


NO_ATTACKS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda export: export,
    "rotate": rotate,
    "retention on record": lambda export: forge_retention(export, export.keys),
    "erasure on record": erase_with_key,
}
# What the auditor's program does not look for: it is short.
BEYOND = {"clock back"}


def attacked(export: Any, attack: Attack) -> list[str]:
    """Attack an export of four days, and return the lines that are to be said."""
    export.days(4)
    names = [export.name(path) for path in export.files()]
    words = {"a": export.stream.account_id, "c": export.chain, "k": export.keys[0].id[:4]}
    attack.do(export)
    return [line.format(*names, **words) for line in attack.shows]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_shows(export: Any, name: str) -> None:
    wanted = attacked(export, ATTACKS[name])
    found = export.verify()
    said = list(found.lines)
    assert found.exit_code == ATTACKS[name].code
    for line in wanted:
        assert any(one.startswith(line) for one in said), said
    if name != "double":
        assert export.verify(quick=True).exit_code == found.exit_code


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("name", [*NO_ATTACKS, *(name for name in ATTACKS if name not in BEYOND)])
def test_the_program_of_an_auditor_comes_to_the_same_verdict(export: Any, name: str, tmp_path: Path) -> None:
    attacked(export, ATTACKS[name] if name in ATTACKS else Attack(NO_ATTACKS[name], ()))
    keys = export.keys[:1]
    (tmp_path / "key.pub").write_text(keys[0].public.pem)
    words = [sys.executable, str(AUDITOR), str(export.root), str(tmp_path / "key.pub")]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=100)
    ours = export.verify(keys=tuple(key.public for key in keys))
    assert done.returncode == ours.exit_code, done.stdout + done.stderr


def test_the_program_of_an_auditor_is_short() -> None:
    lines = AUDITOR.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 80


def test_a_key_hands_over_to_the_next_and_either_proves_the_chain(export: Any) -> None:
    export.days(2)
    rotate(export)
    export.days(2, start=2)
    old, new = export.keys
    for key in (old, new):
        assert export.verify(keys=(key.public,)).exit_code == 0
    assert export.verify(keys=(new_key().public,)).exit_code == 1


def test_a_key_that_is_handed_over_to_without_the_old_one_is_not_believed(export: Any) -> None:
    export.days(2)
    old, new = export.keys[0], new_key()
    export.append(export.manifest(kind="key", key=KeyEntry(old.public.pem, new.public.pem)), [new])
    export.append(export.manifest(), [new])
    said = "\n".join(export.verify(keys=(old.public,)).lines)
    assert "Manifest 00000003  INVALID: signature verification failed" in said
    assert "Manifest 00000004  INVALID: signature verification failed" in said


def test_a_retired_key_that_was_stolen_hands_over_to_none(export: Any) -> None:
    export.days(2)
    old = export.keys[0]
    rotate(export)
    thief = new_key()
    export.append(export.manifest(kind="key", key=KeyEntry(old.public.pem, thief.public.pem)), [old, thief])
    export.append(export.manifest(), [thief])
    said = "\n".join(export.verify(keys=(old.public,)).lines)
    assert "Manifest 00000005  INVALID: signature verification failed" in said
    assert "Manifest 00000006  INVALID: signature verification failed" in said


def truncate(export: Any) -> None:
    """Remove the newest manifest and its files."""
    export.path(4).unlink()
    export.files()[3].unlink()


def test_only_an_anchor_shows_that_the_end_was_cut_off(export: Any) -> None:
    links = export.days(4)
    truncate(export)
    found = export.verify()
    assert found.exit_code == 0
    assert "Nothing proves that the chain ends here: the newest manifest is 3," in next(iter(found.lines))
    for chain in ("", export.chain):
        found = export.verify(anchors=(Anchor(links[3], chain),))
        assert found.exit_code == 1
        assert next(iter(found.lines)).startswith("Manifest 00000004  INVALID: not found, though an anchor names it (")
    assert export.verify(until=DAY_4.before).exit_code == 65


def test_only_an_anchor_shows_an_old_copy_of_everything(export: Any, copied: Callable[..., Any]) -> None:
    export.days(2)
    old = copied(export, "old")
    links = export.days(2, start=2)
    assert old.verify().exit_code == 0
    assert old.verify(anchors=(Anchor(links[1]),)).exit_code == 1


def test_an_anchor_older_than_the_theft_shows_that_the_key_was_stolen(export: Any) -> None:
    links = export.days(4)
    export.back_to(2)
    for number in (2, 3):
        export.files()[2].unlink()
        export.append(export.manifest(covered=[Window(FIRST + timedelta(days=number), FIRST + timedelta(days=4))]))
    assert export.verify().exit_code == 0
    found = export.verify(anchors=(Anchor(links[2]),))
    assert found.exit_code == 1
    assert next(iter(found.lines)) == "Manifest 00000003  INVALID: is not the one that an anchor names"
    assert export.verify(anchors=(Anchor(links[1]),)).exit_code == 0


def test_an_anchor_of_the_newest_manifest_proves_the_end(export: Any) -> None:
    links = export.days(3)
    assert [one for one in export.verify(anchors=(Anchor(links[2]),)).lines if "Nothing proves" in one] == []
    said = list(export.verify(anchors=(Anchor(links[1]),)).lines)
    assert said[0].startswith("The newest anchor is of manifest 2, the newest manifest is 3, of ")
    assert said[0].endswith("nothing proves that there is none behind it")


def test_anchors_of_other_sinks_are_passed_over_and_of_other_chains_of_this_one_not(export: Any) -> None:
    links = export.days(1)
    other = Anchor(links[0], "0123456789abcdef/s3")
    assert export.verify(anchors=(other,)).exit_code == 0
    assert "1 anchors are of chains of other sinks" in "\n".join(export.verify(anchors=(other,)).lines)
    assert export.verify(anchors=(Anchor(links[0], "0123456789abcdef/parquet"),)).exit_code == 1


def test_the_page_about_proof_explains_what_attacks_show() -> None:
    page = (Path(__file__).parents[3] / "docs" / "proof.md").read_text(encoding="utf-8")
    said = [line for one in ATTACKS.values() for line in one.shows if "INVALID" in line]
    unexplained = {
        "has been moved from its place, which is {c}, number 3",
        "has been moved from its place, which is {c}, number 2",
    }
    for line in {line.partition("INVALID: ")[2] for line in said} - unexplained:
        assert line.partition("(key")[0].rstrip(" 0123456789") in page, line


def test_nothing_stops_at_the_first_thing_that_is_wrong(export: Any) -> None:
    export.days(4)
    names = [export.name(path) for path in export.files()]
    for attack in (edit, delete, add):
        attack(export)
    said = "\n".join(export.verify().lines)
    for line in (
        "Manifest 00000002  INVALID: signature verification failed",
        "Manifest 00000003  INVALID: does not follow manifest 2",
        f"{names[1]}  INVALID: not found",
        "Not covered: 2026-11-02T00:00:00.000Z to 2026-11-03T00:00:00.000Z (never exported)",
        "3 of 4 files and 2 of 4 manifests valid, 2 files INVALID, 2 manifests INVALID.",
    ):
        assert line in said
