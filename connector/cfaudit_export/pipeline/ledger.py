"""A stream's checkpoint, open for writing: nothing else moves state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from cfaudit_export.core.model import UNNAMED_ACCOUNT, Checkpoint, Intent, SinkProgress, Stream
from cfaudit_export.errors import CheckpointDamagedError, SettingsError
from cfaudit_export.plugin.interfaces import CheckpointStore

_LOG = logging.getLogger(__name__)

Change = Callable[[Checkpoint], Checkpoint]


class Ledger:
    """What is remembered of a stream. Each change is one compare-and-swap; who loses the race stops.

    Attributes:
        checkpoint: what is remembered now, of the stream as it is read now.
        earlier: the stream as it was read when the checkpoint was written last: perhaps through another source.
        was_signed: whether the checkpoint had a signature when it was read; a store that signs has verified it.
    """

    def __init__(self, store: CheckpointStore, stream: Stream) -> None:
        """Read what there is; nothing is written before there is a change.

        Raises:
            CheckpointDamagedError: there is a checkpoint, and it cannot be read.
            TryAgainError: the store cannot be reached.
        """
        self._store = store
        found = store.load(stream.id)
        self.earlier = found.checkpoint.stream if found else stream
        self.checkpoint = replace(found.checkpoint, stream=stream) if found else Checkpoint(stream)
        self.was_signed = found is not None and found.checkpoint.signature is not None
        self._version = found.version if found else None

    def write(self, change: Change, at: datetime) -> None:
        """Apply a change and make it durable; one that changes nothing is not written.

        Raises:
            CheckpointConflictError: another run changed the checkpoint; ours stays unwritten.
            TryAgainError: the store cannot be reached or written.
        """
        changed = change(self.checkpoint)
        if changed == self.checkpoint:
            return
        changed = replace(changed, updated_at=at, signature=None)  # it is of what was before
        self._version = self._store.save(changed, expected=self._version)
        self.checkpoint = changed

    def progress(self, sink: str) -> SinkProgress:
        """Return what a sink has; a new sink has nothing."""
        return self.checkpoint.sinks.get(sink, SinkProgress())

    def promised(self, but: Container[str] = ()) -> dict[str, Intent]:
        """Return the intents of sinks by batch, but for some; sinks that share a staged batch promise the same file."""
        sinks = (progress for name, progress in self.checkpoint.sinks.items() if name not in but)
        return {intent.batch_id: intent for progress in sinks for intent in progress.intents}


def require_same_name(store: CheckpointStore, stream: Stream, *, is_named: bool, is_sure: bool = True) -> None:
    """See whether a stream that begins was perhaps exported before under another name of its account.

    Its events would all be delivered again: the account is a part of their ids.

    Args:
        store: what is remembered.
        stream: what is to be exported.
        is_named: whether the settings name the account.
        is_sure: whether it is the account of the credential: the server has confirmed it, or the settings vouch for it.

    Raises:
        SettingsError: it was, or so it seems, and the settings do not say that this is another account.
    """
    whole = replace(stream, slice=None)
    if store.load(stream.id) or store.load(whole.id):
        return
    if stream.account_id == UNNAMED_ACCOUNT:
        if not is_named and (other := _another_of_the_log(store, whole)):
            raise SettingsError(
                f"the server does not name the account, and account '{other}' was exported before; if it is the same, "
                f"use --account {other}, as otherwise all its events are delivered again; if it is another one, use "
                f"--account {UNNAMED_ACCOUNT}"
            )
        return
    go_on = f"use --account {UNNAMED_ACCOUNT}"  # the reader knows whether it is the same
    if not is_sure and (other := _another_of_the_log(store, whole)):
        known = go_on if other == UNNAMED_ACCOUNT else f"use --account {other}"
        raise SettingsError(
            f"the server does not confirm that the credential belongs to account '{stream.account_id}', and account "
            f"'{other}' was exported before; if that is the account, {known}, as otherwise all its events are "
            f"delivered again; if it is '{stream.account_id}', confirm that with --trust-account"
        )
    if stream.slice or not store.load(replace(whole, account_id=UNNAMED_ACCOUNT).id):
        return
    if is_named:
        _LOG.warning("an account was exported before without its id", extra={"account": stream.account_id, "do": go_on})
        return
    raise SettingsError(
        f"an account was exported before without its id; if it is '{stream.account_id}', {go_on}, as otherwise all its "
        f"events are delivered again; if it is another one, use --account {stream.account_id}"
    )


def _another_of_the_log(store: CheckpointStore, stream: Stream) -> str | None:
    """Return an account that was exported from the same log with the same filters, None where there is none."""
    for stream_id in store.streams():
        with suppress(CheckpointDamagedError):  # which stops the run of its own stream
            if (found := store.load(stream_id)) and _is_of_the_same_log(found.checkpoint.stream, stream):
                return found.checkpoint.stream.account_id
    return None


def _is_of_the_same_log(one: Stream, other: Stream) -> bool:
    logs = {stream.log or stream.source for stream in (one, other)}
    return len(logs) == 1 and one.filters == other.filters and one.slice is None
