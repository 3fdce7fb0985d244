"""The values that travel through an export: windows, batches, receipts, checkpoints, gaps, reports.

Everything here is frozen, comparable and made of the standard library only, so that a plugin author can import it
for nothing. Times are aware and UTC; a window is half-open.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cfaudit_export.errors import ExitCode

MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TRIMMED_SHARE = 0.01
"""Of all rows, how many may stay trimmed before that is worth a warning."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open interval `[since, before)` of event time, both ends UTC on a whole millisecond.

    The unit of extraction, of checkpointing and of a gap. Milliseconds, because that is the finest time the default
    tool can be asked for; an event with a finer time belongs to the millisecond that contains it.

    Raises:
        ValueError: an end is naive or finer than a millisecond, or the window is empty.
    """

    since: datetime
    before: datetime

    def __post_init__(self) -> None:
        for end in (self.since, self.before):
            if end.utcoffset() != timedelta(0):
                raise ValueError(f"a window needs UTC times, not '{end.isoformat()}'")
            if end.microsecond % 1000:
                raise ValueError(f"a window ends on whole milliseconds, not '{end.isoformat()}'")
        if self.since >= self.before:
            raise ValueError(f"window start must be earlier than its end, not '{self}'")

    def __str__(self) -> str:
        return f"{iso(self.since)}/{iso(self.before)}"

    @property
    def duration(self) -> timedelta:
        """Return the length of the window."""
        return self.before - self.since


def iso(at: datetime) -> str:
    """Return `at` as `2026-11-20T23:59:53.520Z`: exactly three digits and Z, the form the default tool demands."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def floor_ms(at: datetime) -> datetime:
    """Return `at` in UTC, cut to the whole millisecond that contains it."""
    return at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)


def to_ms(at: datetime) -> int:
    """Return whole milliseconds since the epoch."""
    return (at - EPOCH) // MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Return the UTC time of a count of milliseconds since the epoch."""
    return EPOCH + milliseconds * MILLISECOND


# Stands for the id of an account: the credential has only one, and the server does not say which.
UNNAMED_ACCOUNT = "pinned"


@dataclass(frozen=True, slots=True)
class Stream:
    """What is exported: one account, read through one source, under fixed filters.

    Attributes:
        account_id: the account, 32 hex digits.
        source: the name of the source plugin.
        filters: sorted pairs of filter name and value; an event is in the stream when it meets all.
        log: name of the log that is read, where several sources read the same one; empty for the source's own.
        slice: for a slice of a stream, its time: leased to a run with a checkpoint of its own, beside other slices.
    """

    account_id: str
    source: str
    filters: tuple[tuple[str, str], ...] = ()
    log: str = ""
    slice: Window | None = None

    @property
    def asked_account(self) -> str:
        """The account to ask for; empty for whichever the credential belongs to."""
        return "" if self.account_id == UNNAMED_ACCOUNT else self.account_id

    def account_found(self, account_id: str) -> str:
        """Return the account of the events: begun without its name, they go on so, as it is a part of their ids."""
        return UNNAMED_ACCOUNT if self.account_id == UNNAMED_ACCOUNT else account_id

    @property
    def id(self) -> str:
        """Return the short hash under which everything about this stream is remembered.

        It is the same for all sources of one log: what is remembered is what was delivered, by whichever source.
        """
        parts = [self.account_id, self.log or self.source, sorted(self.filters)]
        text = json.dumps(parts + [str(self.slice)] * bool(self.slice), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Gap:
    """A window, as small as it could be made, that could not be read.

    Attributes:
        window: the interval in which the unreadable rows lie.
        rows: how many rows are known to be unreadable there; 0 when even that is unknown.
        reason: why, in one line; for a row the server rejects, the path of the field and the server's word.
        first_seen_at: when a run met it first.
        last_tried_at: when a run tried it last.
        attempts: how many runs tried.
        shadows: event ids of the shadow events that stand for its rows.
    """

    window: Window
    rows: int
    reason: str
    first_seen_at: datetime
    last_tried_at: datetime
    attempts: int = 1
    shadows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trimmed:
    """An interval whose rows a sink has trimmed, because the call budget was exhausted: later runs complete it.

    Attributes:
        window: the interval.
        rows: how many rows these are; of a part of an interval that was cut since, an estimate.
        since: when they were read.
        keys: their keys, packed as in `Seen`, where the sink has others in the interval, too.
    """

    window: Window
    rows: int
    since: datetime
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Trimming:
    """What a delivery changes in what a sink has trimmed.

    Attributes:
        added: intervals that are trimmed from now on.
        completed: intervals that are trimmed no longer.
        rows: rows delivered that take the place of trimmed ones.
    """

    added: tuple[Trimmed, ...] = ()
    completed: tuple[Window, ...] = ()
    rows: int = 0


@dataclass(frozen=True, slots=True)
class SeenWindow:
    """Keys of events that a sink has in a window, packed as in `Seen`."""

    window: Window
    keys: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Keys of events that a sink has: of each the first 96 bits in base64, sixteen characters.

    With a million events in the rescan horizon, two of them agree in 96 bits with a probability below 10 to the minus
    17. A window is in one entry of a kind at most, and entries are ascending.

    Attributes:
        hours: the keys of an hour, by its name (`2026-11-24T02`); kept for the rescan horizon, so that latecomers can
            be told from events that the sink has.
        gaps: windows in which the sink lacks what could not be read, with the keys of what could; kept until the sink
            has the rest, however old they are. An entry is there even without keys.
        refilled: windows that could not be read at first and were read after all, with the keys of what they hold;
            kept for the rescan horizon: see `cfaudit_export.pipeline.dedup.refilled`.
    """

    hours: dict[str, str] = field(default_factory=dict)
    gaps: tuple[SeenWindow, ...] = ()
    refilled: tuple[SeenWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """A promise written before a load: this batch is about to be in that sink.

    Attributes:
        batch_id: names the batch for ever; derived from its content.
        window: what is covered once the batch is loaded.
        rows: events in the batch.
        digest: SHA-256 of the staged file, hex.
        seen: what is to be remembered once the batch is loaded.
        late_rows: how many of the rows are latecomers.
        trimming: what is trimmed, and what no longer, once the batch is loaded.
    """

    batch_id: str
    window: Window
    rows: int
    digest: str
    seen: Seen = Seen()
    late_rows: int = 0
    trimming: Trimming = Trimming()


@dataclass(frozen=True, slots=True)
class Batch:
    """The new events of one window, ascending by time, as an Arrow IPC file of the schema `cfaudit_export.schema`.

    Attributes:
        batch_id: 32 hex digits derived from the stream and the ids of the events.
        stream: where the events come from.
        window: the interval that the batch completes.
        rows: how many events; never 0.
        path: the staged file; read it with `cfaudit_export.read_batch`. A sink that has to keep track of a load may
            write a file of the same name and a suffix of its own beside it, which goes when the batch goes.
        digest: SHA-256 of the staged file, hex.
        refused_before: whether this sink has refused each of the events before, so that refusing all of them again is
            no sign of wrong settings.
        taken_before: whether this sink has ever taken an event of the stream, in this run or an earlier one; one that
            has not, and refuses every event of a batch, however small, has another fault than the events.
    """

    batch_id: str
    stream: Stream
    window: Window
    rows: int
    path: Path
    digest: str
    refused_before: bool = False
    taken_before: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that a sink refuses for good.

    Attributes:
        event_id: which event.
        reason: why, as the sink says it; never the event.
    """

    event_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a sink wrote.

    Attributes:
        name: below the root of what the sink stores, with `/` between folders; the same wherever that is moved.
        bytes: its size.
        sha256: SHA-256 of its bytes, hex.
        rows: how many events it has.
    """

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sink's word that a batch is durable.

    Attributes:
        batch_id: which batch.
        rows: events stored, the rejected ones not counted.
        locations: where they are, as the sink names it: paths, URLs, a table.
        already: True when the sink had the batch before and stored nothing now.
        rejected: events quarantined because the sink will never take them.
        files: what the events are in, of a sink that stores files; hashed as they are written. A file that was merged
            into another one since is not among them. Empty for a sink that stores no files, or does not say.
    """

    batch_id: str
    rows: int
    locations: tuple[str, ...] = ()
    already: bool = False
    rejected: tuple[Rejected, ...] = ()
    files: tuple[StoredFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long after their own time events were still missing, measured on those that an earlier run missed.

    The delay is at least so long: it is that of the last run that read their time without them.

    Attributes:
        count: late events so far.
        max_seconds: the longest delay seen.
        by_minutes: histogram; key n counts delays of at most n minutes (1, 5, 15, 60, 360, and -1 for longer).
    """

    count: int = 0
    max_seconds: float = 0.0
    by_minutes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A batch that a sink has, and that no manifest names yet.

    Attributes:
        batch_id: which batch.
        window: what it completed.
        rows: events that the sink has of it.
        late_rows: how many of them are latecomers.
        first: time of its earliest event, None where its staged file was lost.
        last: time of its latest, likewise.
        rows_sha256: digest of the rows, hex; None where manifests are not signed, or an earlier attempt stored them.
        ids_sha256: digest of the ids, hex; None where its staged file was lost.
        files: what the sink stored it in, as in the receipt.
        fidelity: how many of its events were read how.
        replaces: pairs of a shadow or trimmed event, and the event that takes its place; cut off where they are many.
    """

    batch_id: str
    window: Window
    rows: int
    late_rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    rows_sha256: str | None = None
    ids_sha256: str | None = None
    files: tuple[StoredFile, ...] = ()
    fidelity: dict[str, int] = field(default_factory=dict)
    replaces: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What manifests say of what a sink has of a stream, and what the next one is to say.

    Attributes:
        sequence: number of the newest manifest; 0 before there is one.
        sha256: SHA-256 of its file, hex; empty before there is one.
        covered: time that was delivered since manifests are written, sealed or not.
        fresh: the part of it that the next manifest adds.
        unsealed: batches that the next manifest names.
        listed: windows of the gaps that manifests have as open.
        merged: slices that were taken back since, as `<chain>:<sequence>:<sha256>` of their last manifest.
        outside: time that is covered and that this chain does not say so of: delivered while no manifests were
            written, or by a slice.
    """

    sequence: int = 0
    sha256: str = ""
    covered: tuple[Window, ...] = ()
    fresh: tuple[Window, ...] = ()
    unsealed: tuple[Unsealed, ...] = ()
    listed: tuple[Window, ...] = ()
    merged: tuple[str, ...] = ()
    outside: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """What one sink has of a stream.

    Attributes:
        covered: disjoint, ascending windows whose events (but for the gaps) are in the sink.
        seen: what it remembers of the events that it has.
        seen_since: from here on `seen.hours` is complete; the next run reads from here again to find latecomers.
        intents: batches on their way; settled before anything else.
        rows: events delivered since the beginning.
        quarantined: events the sink refused for good and that are quarantined.
        replayed: the batch of refused events that was replayed and counted last; if it is still quarantined, the replay
            died then.
        trimmed: intervals whose rows it has trimmed, ascending; later runs complete them.
        trimmed_rows: rows that it has trimmed because the call budget was exhausted, and that are not replaced yet.
        proof: what manifests say of it.
        destination: where the events are, as the sink names it; None where it names nothing, or has had nothing yet.
        marker: the mark that was left in the destination; None where none was.
    """

    covered: tuple[Window, ...] = ()
    seen: Seen = Seen()
    seen_since: datetime | None = None
    intents: tuple[Intent, ...] = ()
    rows: int = 0
    quarantined: int = 0
    replayed: str | None = None
    destination: str | None = None
    marker: str | None = None
    trimmed: tuple[Trimmed, ...] = ()
    trimmed_rows: int = 0
    proof: Proof = Proof()

    def overdue_rows(self, now: datetime) -> int:
        """Return how many rows are trimmed though a day went by in which they could have been completed.

        0 where these are no more than a hundredth of all.
        """
        young = sum(one.rows for one in self.trimmed if now - one.since < timedelta(days=1))
        overdue = max(self.trimmed_rows - young, 0)
        return overdue if overdue > self.rows * TRIMMED_SHARE else 0


@dataclass(frozen=True, slots=True)
class Applied:
    """A transform that events of a stream went through.

    Attributes:
        digest: SHA-256 of its settings without secrets, hex.
        since: when a run applied it with these settings first.
        memo: what the transform itself wants to have remembered; nothing secret.
    """

    digest: str
    since: datetime
    memo: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that is remembered of a stream between two runs.

    Attributes:
        stream: which stream.
        sinks: progress by sink name.
        gaps: what is known of windows that could not be read, ascending; which sinks lack them is said
            by their `seen.gaps`.
        lateness: how late events have been.
        tool: fingerprint of the source's tool when it was last used; a change is drift.
        updated_at: when it was last written.
        leased: time leased to slices of the stream; only they export it, until it is released.
        transforms: what its events went through, by the names of transforms.
        identity: id of the identity key that its events are known by; None for keys that need no secret.
        format: version of this document.
        signature: `<key id>:<base64>` by the key that signs manifests; None where none is set.
    """

    stream: Stream
    sinks: dict[str, SinkProgress] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    lateness: Lateness = Lateness()
    tool: str | None = None
    updated_at: datetime = EPOCH
    leased: tuple[Window, ...] = ()
    transforms: dict[str, Applied] = field(default_factory=dict)
    identity: str | None = None
    format: int = 3
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """What a source found when it connected.

    Attributes:
        account_id: the account that answers; `UNNAMED_ACCOUNT` where no server says, or where the stream is named so.
        account_name: its name, where the source says.
        credential: kind of credential: `user token`, `account token`, `token`, `oauth`.
        calls_per_page: calls of the upstream budget that one page costs.
        filters: names of filters that the source really applies.
        server: name and version of the server.
        protocol: protocol revision in use.
        tool: fingerprint of the tool's input schema.
        accounts: id and name of every account the credential sees, where the source says.
        clock_ahead_seconds: how far our clock is ahead of the server's, negative for behind; 0 where there is no other
            clock, None where there is one that the server does not tell.
        recovery_per_page: further pages that rebuilding columns costs for each, at most; 0 where nothing is cut off.
        account_verified: whether the server, or Cloudflare's API, confirms that the credential can use the account;
            False where it is only what was asked for.
    """

    account_id: str
    account_name: str | None
    credential: str
    calls_per_page: int
    filters: frozenset[str]
    server: str
    protocol: str
    tool: str
    accounts: tuple[tuple[str, str], ...] = ()
    clock_ahead_seconds: float | None = 0.0
    recovery_per_page: int = 0
    account_verified: bool = True


@dataclass(frozen=True, slots=True)
class SinkReport:
    """What one sink got in a run: batches and rows, where they are, and the error that stopped it if one did.

    `loaded_bytes` is the size of the batches as they were staged, not as the sink stores them. `anchor` names the
    newest manifest that was written, as `<chain>:<sequence>:<sha256>`.
    """

    name: str
    batches: int = 0
    rows: int = 0
    late_rows: int = 0
    quarantined: int = 0
    locations: tuple[str, ...] = ()
    error: str | None = None
    exit_code: ExitCode = ExitCode.OK
    loaded_bytes: int = 0
    anchor: str | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run of one stream did.

    Attributes:
        stream: which stream.
        started_at: when, by the run's clock.
        finished_at: when it ended.
        wanted: the interval the run was to complete, None when there was nothing to do.
        windows: windows extracted.
        events: events read, before those already delivered were left out.
        calls: tool calls made.
        trimmed: events delivered without recovered columns: call budget exhausted.
        completed: events delivered again with all columns, in the place of trimmed ones.
        still_trimmed: events that a sink has without all columns, from this run and earlier ones.
        sinks: per sink.
        gaps: gaps that remain in the checkpoint.
        error: what stopped the run early, in one line.
        exit_code: what the process should end with.
        retry_after_seconds: with exit code 75, how long to wait before the next run, where that is known.
        extra: counters of the source (`retries`, `throttles`, `waited_seconds`), for logs and metrics.
    """

    stream: Stream
    started_at: datetime
    finished_at: datetime
    wanted: Window | None
    windows: int = 0
    events: int = 0
    calls: int = 0
    trimmed: int = 0
    completed: int = 0
    still_trimmed: int = 0
    sinks: tuple[SinkReport, ...] = ()
    gaps: tuple[Gap, ...] = ()
    error: str | None = None
    exit_code: ExitCode = ExitCode.OK
    retry_after_seconds: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
