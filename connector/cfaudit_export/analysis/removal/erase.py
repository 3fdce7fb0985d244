"""Files that name a person -> the same files without, on record, so that what is left is still proved.

For each chain, some files at a time:

1. Each file is compared with its manifest, and its new content is put aside, under the name of its digest.
2. A manifest of kind `retention` names the old files and the new ones, and the events of which something was erased.
3. What is aside is put in the place of the old files, and removed there.

A crash before 2 leaves what is aside, which the next run removes; one after it, files that still have what was erased,
which the next run puts right, and `verify` tells until then.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cfaudit_export.analysis.removal.person import Person
from cfaudit_export.analysis.removal.record import Work, record
from cfaudit_export.analysis.removal.rewrite import Rewritten, rewritten
from cfaudit_export.analysis.removal.storage import ASIDE
from cfaudit_export.analysis.removal.trusted import Trusted, is_asked
from cfaudit_export.analysis.verify.expected import KnownFile
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import StoredFile
from cfaudit_export.proof.manifest import Replacement

_FILES, _EVENTS = 200, 20_000  # at most in one manifest, but for the last file
_REASON = "a person was erased"


@dataclass(frozen=True, slots=True)
class ErasedFile:
    """A file in which something was erased, or would be.

    Attributes:
        name: the file.
        events: how many of its events.
        sequence: number of the manifest that says so; None for a dry run, and for what an earlier run had recorded.
        others: what else those who did these events are called.
    """

    name: str
    events: int
    sequence: int | None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnerasedFile:
    """A file that names the person still, or may, and why.

    Attributes:
        name: the file.
        why: what keeps it so.
        is_wrong: whether it was changed, removed or added.
    """

    name: str
    why: str
    is_wrong: bool


def erase(trusted: Trusted, work: Work, person: Person) -> Iterator[ErasedFile | UnerasedFile]:
    """Erase a person from all files; yield what was erased, and what was not.

    Raises:
        SettingsError: a chain cannot be read, or is signed by another key.
        SinkError: a file or a manifest cannot be written now; what was recorded is finished by the next run.
        OSError: a file cannot be read.
    """
    done = dict(_finished(trusted, work))
    yield from (ErasedFile(name, 0, None) for name in done)
    waiting: dict[str, list[tuple[KnownFile, Rewritten]]] = defaultdict(list)
    for name, known in sorted(trusted.expected.files.items()):
        if not is_asked(name, work.accounts):
            continue
        content = done.get(name) or trusted.content(known)
        found = content if isinstance(content, str) else _rewritten(content, person, known, work)
        if isinstance(found, str):
            yield UnerasedFile(name, found, is_wrong=True)
            continue
        if found.kept:
            yield UnerasedFile(name, f"columns that are never null name the person, {found.kept} times", is_wrong=False)
        if work.dry_run and found.erased:
            yield ErasedFile(name, len(found.erased), None, tuple(sorted(found.others)))
        elif found.content:
            some = waiting[known.chain]
            some.append((known, found))
            work.storage.write_file(_aside(found), found.content)
            found.content = b""
            if len(some) >= _FILES or sum(len(one.erased) for _, one in some) >= _EVENTS:
                yield from _replaced(work, known.chain, waiting.pop(known.chain))
    for chain, some in sorted(waiting.items()):
        yield from _replaced(work, chain, some)
    yield from _unnamed(trusted, work, person)


def _rewritten(content: bytes, person: Person, known: KnownFile, work: Work) -> Rewritten | str:
    """Return a file without a person, or why it cannot be read."""
    try:
        found = rewritten(content, person, known.only, write=not work.dry_run, with_rows=bool(work.keys))
    except (pa.ArrowException, OSError) as error:
        return f"its rows cannot be read ({escaped(str(error), 80)})"
    return found or Rewritten()


def _aside(found: Rewritten) -> str:
    return f"{ASIDE}/{found.sha256}.parquet"


def _replaced(work: Work, chain: str, some: Sequence[tuple[KnownFile, Rewritten]]) -> Iterator[ErasedFile]:
    """Record what is aside, and put it in its places."""
    replaced = [Replacement((known.file,), _stored(known, found), found.parts) for known, found in some]
    erased = [one for _, found in some for one in found.erased]
    link = record(work, chain, replaced, _REASON, erased)
    for known, found in some:
        _put(work, known.file.name, _aside(found))
        yield ErasedFile(known.file.name, len(found.erased), link.sequence, tuple(sorted(found.others)))


def _stored(known: KnownFile, found: Rewritten) -> StoredFile:
    return StoredFile(known.file.name, found.bytes, found.sha256, known.file.rows)


def _put(work: Work, name: str, aside: str) -> None:
    content = work.storage.read_file(aside)
    if content is not None:
        work.storage.write_file(name, content)
        work.storage.remove_file(aside)


def _finished(trusted: Trusted, work: Work) -> Iterator[tuple[str, bytes]]:
    """Put in its place what an earlier run had recorded, and remove what it had not; yield names and contents."""
    if work.dry_run:
        return
    wanted = {known.file.sha256: name for name, known in trusted.expected.files.items()}
    for aside in work.storage.files_aside():
        content = work.storage.read_file(aside) or b""
        name = wanted.get(hashlib.sha256(content).hexdigest())
        found = trusted.there.get(name) if name else None
        if name and found and trusted.is_before_erasure(found):
            work.storage.write_file(name, content)
            yield name, content
        work.storage.remove_file(aside)


def _unnamed(trusted: Trusted, work: Work, person: Person) -> Iterator[UnerasedFile]:
    """Yield the files that name the person and that no manifest names, so that they cannot be rewritten on record."""
    for name, found in sorted(trusted.there.items()):
        if name in trusted.expected.files or not is_asked(name, work.accounts) or found.fault:
            continue
        with trusted.place.open(found) as file:
            content = file.read()
        try:
            named = rewritten(content, person, "", write=False, with_rows=False)
        except (pa.ArrowException, OSError) as error:
            yield UnerasedFile(name, f"its rows cannot be read ({escaped(str(error), 80)})", is_wrong=False)
            continue
        if named is not None:
            yield UnerasedFile(name, "no manifest names it, or names it any more; it names the person", is_wrong=False)
