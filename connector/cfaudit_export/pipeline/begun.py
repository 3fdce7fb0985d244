"""By what events of a stream are known, and what they went through: a later run goes on so, or says what changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from cfaudit_export.core.identity_key import IdentityKey
from cfaudit_export.core.model import Applied, Checkpoint, iso
from cfaudit_export.errors import SettingsError
from cfaudit_export.pipeline.ledger import Change
from cfaudit_export.pipeline.transform import NamedTransform

_LOG = logging.getLogger(__name__)


def require_identity(checkpoint: Checkpoint, key: IdentityKey | None) -> None:
    """See whether events of a stream that has delivered some would get other keys than those had.

    Raises:
        SettingsError: they would: all of them would be taken for new ones.
    """
    has_some = any(one.rows or one.intents or one.quarantined for one in checkpoint.sinks.values())
    if not has_some or checkpoint.identity == (key and key.id):
        return
    begun = f"with identity key {checkpoint.identity}" if checkpoint.identity else "without an identity key"
    wanted = "set identity.key_file to that key" if checkpoint.identity else "remove identity.key_file"
    raise SettingsError(
        f"stream '{checkpoint.stream.id}' was begun {begun}; its events would be taken for new ones. Either {wanted}, "
        "or begin a new export with another state_dir and another place"
    )


def require_same_pseudonyms(checkpoint: Checkpoint, transforms: Iterable[NamedTransform]) -> None:
    """Let transforms compare themselves with those that the events of a stream went through.

    Raises:
        SettingsError: one would change events that were delivered, should they be read again.
    """
    ends = [one.before for progress in checkpoint.sinks.values() for one in progress.covered]
    ends += [one.window.before for progress in checkpoint.sinks.values() for one in progress.intents]
    for transform in transforms:
        resume, was = getattr(transform.apply, "resume", None), checkpoint.transforms.get(transform.name)
        if resume is not None and was is not None and ends:
            resume(was.memo, max(ends))


def begin(key: IdentityKey | None, transforms: Iterable[NamedTransform], at: datetime) -> Change:
    """Remember by what events are known from now on, and what they go through; say what of that is new."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        has_some = any(one.rows for one in checkpoint.sinks.values())
        applied = dict(checkpoint.transforms)
        for transform in transforms:
            was = applied.get(transform.name)
            memo = str(getattr(transform.apply, "memo", ""))
            if was is None or was.digest != transform.digest:
                _say_changed(transform, was, has_some=has_some)
                applied[transform.name] = Applied(transform.digest, at, memo)
            else:
                applied[transform.name] = replace(was, memo=memo)
        return replace(checkpoint, identity=key.id if key else None, transforms=applied)

    return change


def say_notes(transforms: Iterable[NamedTransform]) -> None:
    """Log what transforms want a person to know of what they did."""
    for transform in transforms:
        for text, facts in getattr(transform.apply, "notes", tuple)():
            _LOG.warning(text, extra={"transform": transform.name, **facts})


def _say_changed(transform: NamedTransform, was: Applied | None, *, has_some: bool) -> None:
    facts = {"transform": transform.name}
    if was is not None:
        _LOG.warning(
            "the transform has changed; events loaded before keep their old form", extra=facts | {"was": iso(was.since)}
        )
    elif has_some:
        _LOG.warning("the transform is new; events loaded before did not go through it", extra=facts)
