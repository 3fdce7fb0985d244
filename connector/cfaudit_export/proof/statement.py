"""A manifest <-> the bytes that are signed: an in-toto statement as RFC 8785 JSON.

Files are the subjects of the statement, with their digests; what the manifest says of them is its predicate. Reading
makes the bytes again from what it took from them, and refuses a document where these differ: so nothing in it goes
unread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import StoredFile, Window, iso
from cfaudit_export.proof.canonical import canonical, parse_json
from cfaudit_export.proof.manifest import FORMAT, Manifest, Replacement

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://cfaudit-export.dev/manifest/v1"

# Left out where they say nothing, as most manifests have none of them.
_RARE = ("replaced", "erased", "key", "merged_into", "merged_from", "reason", "checkpoint")
_WINDOW_KEYS = ("window", "slice")
_WINDOWS_KEYS = ("covered", "covered_total")
_SECONDS_KEYS = ("settle_lag", "rescan")


def statement(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest: the payload of its envelope; equal manifests give equal bytes.

    Half a surrogate pair, which a server's reason for a gap may have, becomes a question mark.
    """
    predicate = _tree(manifest)
    for name in _RARE:
        if not predicate[name]:
            del predicate[name]
    subject = [{"name": one.name, "digest": {"sha256": one.sha256}} for one in manifest.files]
    return canonical(
        {
            "_type": STATEMENT,
            "subject": subject,
            "predicateType": PREDICATE,
            "predicate": {"format": FORMAT, **predicate},
        }
    )


def parse_statement(payload: bytes) -> Manifest:
    """Return the manifest that a payload holds.

    Raises:
        ValueError: it is none, or not one that this version reads whole; the text says why.
    """
    tree = parse_json(payload)
    if not isinstance(tree, dict) or tree.get("_type") != STATEMENT or tree.get("predicateType") != PREDICATE:
        raise ValueError("it is no manifest of cfaudit-export")
    predicate = tree.get("predicate")
    if not isinstance(predicate, dict) or "format" not in predicate:
        raise ValueError("it names no format")
    if (found := predicate["format"]) != FORMAT:
        raise ValueError(f"it has format {escaped(str(found), 20)}, and this version reads {FORMAT}")
    digests = _digests(tree.get("subject"))
    try:
        manifest = msgspec.convert(_untree(predicate, digests), Manifest)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if statement(manifest) != payload:
        raise ValueError("it is not in the form that this version writes")
    return manifest


def _tree(value: Any) -> Any:
    """Return a value as JSON has it."""
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    return _fields(value) if dataclasses.is_dataclass(value) else value


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: _tree(getattr(value, one.name)) for one in dataclasses.fields(value)}


def _replacement(value: Replacement) -> dict[str, Any]:
    """Return files that are no subjects of the statement, and so have their digests here."""
    old = [{**_tree(one), "sha256": one.sha256} for one in value.old]
    return {"old": old, "new": _tree(value.new), "parts": _tree(value.parts)}


def _moment(at: datetime) -> str:
    """Return a time with as many digits as it needs, three or six."""
    if at.microsecond % 1000 == 0:
        return iso(at)
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _digests(subject: Any) -> dict[str, str]:
    """Return the digest of each subject by its name."""
    found = {}
    for one in subject if isinstance(subject, list) else ():
        match one:
            case {"name": str(name), "digest": {"sha256": str(digest)}}:
                found[name] = digest
    return found


def _untree(tree: Any, digests: Mapping[str, str], key: str = "") -> Any:
    """Return JSON in the form from which msgspec makes the values; what does not fit is left for it to refuse."""
    if isinstance(tree, dict):
        found = {name: _untree(one, digests, name) for name, one in tree.items() if name != "format"}
        if found.keys() == {"name", "bytes", "rows"}:
            found["sha256"] = digests.get(str(found["name"]), "")
        return found
    if isinstance(tree, list):
        if key in _WINDOW_KEYS and len(tree) == 2:
            return dict(zip(("since", "before"), tree, strict=True))
        return [_untree(one, digests, "window" if key in _WINDOWS_KEYS else key) for one in tree]
    if key in _SECONDS_KEYS and isinstance(tree, int | float):
        return _length(tree)
    return tree


def _length(seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("a length of time is too large") from None


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (Window, lambda one: [iso(one.since), iso(one.before)]),
    (datetime, _moment),
    (timedelta, timedelta.total_seconds),
    (float, lambda one: round(one, 3)),
    (str, lambda one: one.encode(errors="replace").decode()),
    (StoredFile, lambda one: {"name": one.name, "bytes": one.bytes, "rows": one.rows}),
    (Replacement, _replacement),
    (dict, lambda one: {key: _tree(value) for key, value in one.items()}),
    ((tuple, list), lambda some: [_tree(one) for one in some]),
)
