"""Checkpoint in, a readable JSON document out, and back.

People read this document in the middle of an incident, and compare two of them: it is indented, its keys are in a
stable order, a window is one text `since/before` (ISO 8601). A document that cannot be read is an error and never a
fresh start, because a fresh start would deliver everything twice.

It is sealed (`seal`), so that an edited document, or one that a disk has changed, is refused. Documents of format 1 are
not. Documents of earlier formats are read, and written in the present one when they are saved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from cfaudit_export.core.model import EPOCH, Checkpoint, iso
from cfaudit_export.core.seal import broken_seal, sealed
from cfaudit_export.errors import CheckpointDamagedError
from cfaudit_export.stores.upgrade import upgrade

FORMAT = 3
# Coverage ends before the moment at which it is written. Another clock may be ahead of ours, by no more than this.
_AHEAD = timedelta(days=1)
# Where the model has a window, and where several.
_ONE = ("window", "slice")
_SEVERAL = ("covered", "leased", "completed", "fresh", "listed", "outside")


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the document of a checkpoint; equal checkpoints give equal documents."""
    tree = msgspec.to_builtins(checkpoint, order="deterministic", str_keys=True)
    folded = _fold({"format": FORMAT} | {name: value for name, value in tree.items() if name != "format"})
    # A server's reason may hold half a surrogate pair, which UTF-8 cannot: it becomes a question mark.
    return sealed(json.dumps(folded, indent=2, ensure_ascii=False, allow_nan=False).encode(errors="replace"))


def decode(document: bytes, *, stream_id: str, where: str) -> Checkpoint:
    """Return the checkpoint that a document holds.

    Args:
        document: what `encode` returned.
        stream_id: the stream it must belong to.
        where: the document's place, for the message.

    Raises:
        CheckpointDamagedError: it is not whole, belongs to another stream, or was written by a newer version.
    """
    try:
        tree = msgspec.json.decode(document, type=dict[str, Any])
        _refuse_other_format(tree, where)
        _refuse_edited(tree, document, where)
        tree = {name: value for name, value in upgrade(tree).items() if name != "digest"} | {"format": FORMAT}
        checkpoint = msgspec.convert(_unfold(tree), Checkpoint, str_keys=True)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, str(error)) from error
    if unknown := next(_unknown(tree, msgspec.to_builtins(checkpoint, str_keys=True)), None):
        raise _damaged(where, f"'{unknown}' is not known to this version")
    if naive := next((at for at in _times(checkpoint) if at.utcoffset() is None), None):
        raise _damaged(where, f"the time '{naive.isoformat()}' has no zone")
    if checkpoint.stream.id != stream_id:
        raise _damaged(where, f"it belongs to stream '{checkpoint.stream.id}', not '{stream_id}'")
    if ahead := next(_ahead(checkpoint), None):
        raise _damaged(where, f"it covers until {iso(ahead)}, but was written at {iso(checkpoint.updated_at)}")
    return checkpoint


def require_past(checkpoint: Checkpoint, now: datetime) -> None:
    """Refuse a checkpoint that covers the future, by more than a day: damage, an edit, or a clock that is wrong.

    When it was written says nothing about events: a machine whose clock was ahead for a while has written it so.

    Raises:
        CheckpointDamagedError: it does.
    """
    ends = (window.before for progress in checkpoint.sinks.values() for window in progress.covered)
    if late := next((at for at in ends if at - _AHEAD > now), None):
        raise CheckpointDamagedError(
            f"the checkpoint of stream '{checkpoint.stream.id}' covers until {iso(late)}, which is in the future; set "
            "the clock of this machine, or restore the checkpoint from a backup"
        )


def version_of(document: bytes) -> str:
    """Return the version of a document: the SHA-256 of its bytes, hex."""
    return hashlib.sha256(document).hexdigest()


def _fold(tree: Any) -> Any:
    """Write every window as one text."""
    match tree:
        case {"since": str(since), "before": str(before)} if len(tree) == 2:
            return f"{since}/{before}"
        case dict():
            return {key: _fold(value) for key, value in tree.items()}
        case list() | tuple():
            return [_fold(value) for value in tree]
    return tree


def _unfold(tree: Any) -> Any:
    """Undo `_fold`, where the model has windows."""
    match tree:
        case dict():
            return {
                key: _split(value) if key in _ONE else _each(value) if key in _SEVERAL else _unfold(value)
                for key, value in tree.items()
            }
        case list():
            return [_unfold(value) for value in tree]
    return tree


def _split(window: Any) -> Any:
    if not isinstance(window, str):
        return _unfold(window)
    since, _, before = window.partition("/")
    return {"since": since, "before": before}


def _each(windows: Any) -> Any:
    return [_split(window) for window in windows] if isinstance(windows, list) else _unfold(windows)


def _refuse_other_format(tree: dict[str, Any], where: str) -> None:
    found = tree.get("format")
    if not isinstance(found, int) or found < 1:
        raise _damaged(where, "it names no format")
    if found > FORMAT:
        raise CheckpointDamagedError(
            f"checkpoint '{where}' was written by a newer version of cfaudit-export "
            f"(format {found}, this one reads {FORMAT}); upgrade to that version or a later one"
        )


def _refuse_edited(tree: dict[str, Any], document: bytes, where: str) -> None:
    """Compare the digest of a document; the first format has none."""
    has_none = tree["format"] == 1 and "digest" not in tree
    if not has_none and (why := broken_seal(document)):
        raise _damaged(where, why)


def _ahead(checkpoint: Checkpoint) -> Iterator[datetime]:
    """Yield the ends of coverage that lie behind the moment at which the document was written."""
    for progress in checkpoint.sinks.values():
        for window in progress.covered:
            if window.before - _AHEAD > checkpoint.updated_at > EPOCH:
                yield window.before


def _unknown(tree: Any, known: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of keys that were read over: to write the document again would lose them."""
    if isinstance(tree, dict) and isinstance(known, dict):
        for key, value in tree.items():
            if key not in known:
                yield f"{path}{key}"
            else:
                yield from _unknown(value, known[key], f"{path}{key}.")
    elif isinstance(tree, list) and isinstance(known, list | tuple):
        for at, (value, counterpart) in enumerate(zip(tree, known, strict=True)):
            yield from _unknown(value, counterpart, f"{path}{at}.")


def _times(checkpoint: Checkpoint) -> Iterator[datetime]:
    yield checkpoint.updated_at
    for progress in checkpoint.sinks.values():
        if progress.seen_since:
            yield progress.seen_since
        yield from (one.since for one in progress.trimmed)
        yield from (at for one in progress.proof.unsealed for at in (one.first, one.last) if at)
        yield from (one.since for intent in progress.intents for one in intent.trimming.added)
    yield from (one.since for one in checkpoint.transforms.values())
    for gap in checkpoint.gaps:
        yield gap.first_seen_at
        yield gap.last_tried_at


def _damaged(where: str, why: str) -> CheckpointDamagedError:
    return CheckpointDamagedError(
        f"checkpoint '{where}' cannot be read: {why}; restore it from a backup, "
        "or move it away to start again, which may deliver events twice"
    )
