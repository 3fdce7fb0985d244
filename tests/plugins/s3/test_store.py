"""The checkpoint store: races, lost answers, leases that end, owners that wake up again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from cfaudit_export import (
    Checkpoint,
    CheckpointConflictError,
    CheckpointDamagedError,
    LockedError,
    SettingsError,
    Stream,
    TryAgainError,
)
from cfaudit_export.testing import full_checkpoint
from cfaudit_s3.bucket import Bucket
from cfaudit_s3.lease import Lease
from cfaudit_s3.store import S3Store
from cfaudit_s3.wire import Faults

STREAM = Stream("a" * 32, "auditlogs")
OLD = Checkpoint(STREAM, updated_at=datetime(2026, 11, 1, tzinfo=UTC))
NEW = replace(OLD, updated_at=datetime(2026, 11, 2, tzinfo=UTC))
NEWER = replace(OLD, updated_at=datetime(2026, 11, 3, tzinfo=UTC))
CONDITIONS = frozenset({"if-match", "if-none-match"})


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def date(self) -> str:
        """Return the time as the header `Date` has it."""
        return format_datetime(self.now, usegmt=True)

    def monotonic(self) -> float:
        return self.now.timestamp()

    def pass_by(self, **length: float) -> None:
        self.now += timedelta(**length)


@pytest.fixture
def clock(weather: Any) -> Clock:
    """The clock of the bucket behind the weather, and of the processes that use it."""
    clock = Clock()
    weather.date = clock.date
    return clock


@pytest.fixture
def new_store(behind: Any, clock: Clock) -> Callable[[], S3Store]:
    return lambda: S3Store(behind.store_config(), clock.monotonic)


@pytest.fixture
def new_store_behind(new_store: Callable[[], S3Store]) -> Callable[[], S3Store]:
    """Return what opens a store whose requests meet the weather."""
    return new_store


def lease_of(place: Any) -> dict[str, Any]:
    claim: dict[str, Any] = json.loads(place.read(f"{place.prefix}state/{STREAM.id}.lease"))
    return claim


# -- saving ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_document_that_people_can_read(place: Any, new_store: Any) -> None:
    new_store().save(full_checkpoint(STREAM), expected=None)
    tree = json.loads(place.read(f"{place.prefix}state/{STREAM.id}.json"))
    assert tree["fence"] == 0
    assert tree["checkpoint"]["sinks"]["parquet"]["covered"][1] == "2026-11-20T13:00:00Z/2026-11-20T20:00:00Z"


@pytest.mark.parametrize("expected", ["none", "old"])
def test_a_save_whose_answer_is_lost_is_no_conflict_with_itself(
    new_store_behind: Any, weather: Any, expected: str
) -> None:
    store = new_store_behind()
    version = store.save(OLD, expected=None) if expected == "old" else None
    weather.strike("PUT state", "lose", times=1)
    version = store.save(NEW, expected=version)
    assert new_store_behind().load(STREAM.id).version == version
    assert new_store_behind().load(STREAM.id).checkpoint == NEW


def test_a_save_is_not_taken_for_ours_because_it_says_the_same(new_store: Any) -> None:
    version = new_store().save(OLD, expected=None)
    new_store().save(NEW, expected=version)
    with pytest.raises(CheckpointConflictError, match="was changed by another run"):
        new_store().save(NEW, expected=version)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"fence": 1, "checkpoint": {"format": 1}}', b'{"fence": "x"}', b"\xff"])
def test_a_checkpoint_that_cannot_be_read_is_never_a_fresh_start(place: Any, new_store: Any, body: bytes) -> None:
    key = f"{place.prefix}state/{STREAM.id}.json"
    place.client.put_object(Bucket=place.bucket, Key=key, Body=body)
    with pytest.raises(CheckpointDamagedError, match=f"s3://{place.bucket}/{key}' cannot be read"):
        new_store().load(STREAM.id)
    with pytest.raises(CheckpointConflictError):
        new_store().save(OLD, expected=None)


@pytest.mark.parametrize("store_kind", ["ignores", "refuses"])
def test_a_store_without_conditions_is_refused_before_anything_is_saved(
    behind: Any, new_store_behind: Any, weather: Any, store_kind: str
) -> None:
    if store_kind == "ignores":
        weather.without_headers = CONDITIONS
    else:
        weather.fate = lambda seen: (501, "NotImplemented") if CONDITIONS & seen.headers.keys() else "pass"
    with pytest.raises(SettingsError, match="ignores conditional writes .*cannot keep checkpoints safely"):
        new_store_behind().save(OLD, expected=None)
    with pytest.raises(SettingsError, match="ignores conditional writes"), new_store_behind().hold(STREAM.id):
        pass
    assert new_store_behind().load(STREAM.id) is None
    assert list(new_store_behind().streams()) == []


def test_a_store_that_honours_only_half_of_the_conditions_is_refused(new_store_behind: Any, weather: Any) -> None:
    weather.without_headers = frozenset({"if-match"})
    with pytest.raises(SettingsError, match="ignores conditional writes"):
        new_store_behind().save(OLD, expected=None)


def test_a_store_that_is_down_is_tried_again_later(new_store_behind: Any, weather: Any) -> None:
    weather.strike("", (503, "SlowDown"))
    store = new_store_behind()
    for action in (lambda: store.load(STREAM.id), lambda: store.save(OLD, expected=None), lambda: [*store.streams()]):
        with pytest.raises(TryAgainError, match="503 SlowDown.*try again later"):
            action()


def test_a_missing_right_is_named(new_store_behind: Any, weather: Any) -> None:
    weather.strike("", (403, "AccessDenied"))
    store = new_store_behind()
    with pytest.raises(SettingsError, match="grant s3:ListBucket"):
        list(store.streams())
    with pytest.raises(SettingsError, match="grant s3:PutObject"):
        store.save(OLD, expected=None)


def test_a_checkpoint_that_may_not_be_read_is_no_new_stream(new_store_behind: Any, weather: Any) -> None:
    new_store_behind().save(OLD, expected=None)
    weather.strike("GET state", (403, "AccessDenied"))
    with pytest.raises(SettingsError, match="grant s3:GetObject and s3:ListBucket"):
        new_store_behind().load(STREAM.id)


# -- leases ------------------------------------------------------------------------------------------------------


def test_a_lease_says_who_holds_the_stream_until_when(place: Any, new_store: Any, clock: Clock) -> None:
    with new_store().hold(STREAM.id):
        claim = lease_of(place)
        assert claim["fence"] == 1
        assert datetime.fromisoformat(claim["ends_at"]) == clock() + timedelta(minutes=2)
        with pytest.raises(
            LockedError, match=r"another run \(.* process \d+ \w+\) holds the stream until 2026-11-24 12:02"
        ):
            new_store().hold(STREAM.id).__enter__()
    assert lease_of(place)["released"]


def test_a_lease_that_was_released_is_free_at_once(place: Any, new_store: Any) -> None:
    for fence in (1, 2, 3):
        with new_store().hold(STREAM.id):
            assert lease_of(place)["fence"] == fence


@pytest.fixture
def asleep() -> Iterator[ExitStack]:
    """What is entered here belongs to processes that sleep, or are dead, until the test is over."""
    with ExitStack() as stack:
        yield stack


def test_a_holder_that_died_keeps_others_out_until_its_lease_ends_whatever_their_clocks(
    new_store: Any, clock: Clock, asleep: ExitStack
) -> None:
    asleep.enter_context(new_store().hold(STREAM.id))
    clock.pass_by(seconds=129)
    with pytest.raises(LockedError), new_store().hold(STREAM.id):
        pass
    clock.pass_by(seconds=1)
    with new_store().hold(STREAM.id):
        pass


def test_a_holder_whose_lease_has_ended_keeps_it_if_nobody_took_it(place: Any, new_store: Any, clock: Clock) -> None:
    store = new_store()
    with store.hold(STREAM.id):
        version = store.save(OLD, expected=None)
        clock.pass_by(minutes=30)
        store.save(NEW, expected=version)
        assert datetime.fromisoformat(lease_of(place)["ends_at"]) == clock() + timedelta(minutes=2)
        with pytest.raises(LockedError), new_store().hold(STREAM.id):
            pass
    assert new_store().load(STREAM.id).checkpoint == NEW


def test_a_holder_whose_lease_has_ended_saves_nothing_if_somebody_took_it(
    new_store: Any, clock: Clock, asleep: ExitStack
) -> None:
    store = new_store()
    asleep.enter_context(store.hold(STREAM.id))
    version = store.save(OLD, expected=None)
    clock.pass_by(minutes=30)
    with new_store().hold(STREAM.id), pytest.raises(CheckpointConflictError, match="another run took over the lease"):
        store.save(NEW, expected=version)
    assert new_store().load(STREAM.id).checkpoint == OLD


def test_whoever_takes_over_shuts_out_a_holder_whose_clock_stands_still(
    behind: Any, place: Any, new_store: Any, clock: Clock, asleep: ExitStack
) -> None:
    sleeper = S3Store(behind.store_config(), Clock().monotonic)
    asleep.enter_context(sleeper.hold(STREAM.id))
    version = sleeper.save(OLD, expected=None)
    clock.pass_by(minutes=3)
    heir = new_store()
    with heir.hold(STREAM.id):
        with pytest.raises(CheckpointConflictError):
            sleeper.save(NEW, expected=version)
        found = heir.load(STREAM.id)
        assert found.checkpoint == OLD
        heir.save(NEWER, expected=found.version)
    assert new_store().load(STREAM.id).checkpoint == NEWER


def test_whoever_takes_over_shuts_out_a_holder_that_has_not_saved_yet(
    behind: Any, place: Any, new_store: Any, clock: Clock, asleep: ExitStack
) -> None:
    sleeper = S3Store(behind.store_config(), Clock().monotonic)
    asleep.enter_context(sleeper.hold(STREAM.id))
    clock.pass_by(minutes=3)
    with new_store().hold(STREAM.id), pytest.raises(CheckpointConflictError, match="another run took over the lease"):
        sleeper.save(OLD, expected=None)
    assert new_store().load(STREAM.id) is None


def test_a_holder_that_was_robbed_does_not_let_go_of_what_is_not_its_own(
    behind: Any, place: Any, new_store: Any, clock: Clock
) -> None:
    sleeping = S3Store(behind.store_config(), Clock().monotonic).hold(STREAM.id)
    sleeping.__enter__()
    clock.pass_by(minutes=3)
    with new_store().hold(STREAM.id):
        sleeping.__exit__(None, None, None)
        claim = lease_of(place)
        assert (claim["fence"], claim["released"]) == (2, False)
        with pytest.raises(LockedError), new_store().hold(STREAM.id):
            pass


def test_of_many_heirs_at_once_exactly_one_gets_the_stream(new_store: Any, clock: Clock, asleep: ExitStack) -> None:
    asleep.enter_context(new_store().hold(STREAM.id))
    clock.pass_by(minutes=3)
    start, done = threading.Barrier(6), threading.Barrier(6)

    def inherit(_: int) -> bool:
        store = new_store()
        start.wait(timeout=30)
        try:
            with store.hold(STREAM.id):
                done.wait(timeout=30)
                return True
        except LockedError:
            done.wait(timeout=30)
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(inherit, range(6))) == [False] * 5 + [True]


def test_a_lost_answer_to_a_lease_is_asked_for_again(place: Any, new_store_behind: Any, weather: Any) -> None:
    for method in ("acquired", "taken again"):
        weather.strike("PUT lease", "lose", times=1)
        with new_store_behind().hold(STREAM.id):
            assert not lease_of(place)["released"], method
            weather.strike("PUT lease", "lose", times=1)
        assert lease_of(place)["released"], method


def test_a_lease_that_cannot_be_released_ends_by_itself(
    new_store_behind: Any, weather: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with new_store_behind().hold(STREAM.id):
        weather.strike("PUT lease", (403, "AccessDenied"))
    assert [record.getMessage() for record in caplog.records] == ["lease not released"]
    weather.strike("", "pass")
    clock.pass_by(minutes=3)
    with new_store_behind().hold(STREAM.id):
        pass


@pytest.mark.parametrize("body", [b"", b"{}", b'{"owner": "x", "fence": 1, "ends_at": "2026-11-24T12:00:00"}'])
def test_a_lease_that_cannot_be_read_is_shown_to_a_person(place: Any, new_store: Any, body: bytes) -> None:
    key = f"{place.prefix}state/{STREAM.id}.lease"
    place.client.put_object(Bucket=place.bucket, Key=key, Body=body)
    with pytest.raises(CheckpointDamagedError, match="cannot be read: .*; remove it when no run is under way"):
        new_store().hold(STREAM.id).__enter__()


def test_a_lease_is_judged_by_the_clock_of_the_store_and_by_no_other(behind: Any, weather: Any, place: Any) -> None:
    """The clock of this machine is ten minutes ahead; the holder's lease has a minute to go."""
    behind_us = datetime.now(UTC) - timedelta(minutes=10)
    weather.date = lambda: format_datetime(behind_us, usegmt=True)
    claim = {"owner": "elsewhere", "fence": 1, "ends_at": (behind_us + timedelta(minutes=1)).isoformat()}
    key = f"{place.prefix}state/{STREAM.id}.lease"
    place.client.put_object(Bucket=place.bucket, Key=key, Body=json.dumps(claim).encode())
    with pytest.raises(LockedError, match="another run"), S3Store(behind.store_config()).hold(STREAM.id):
        pass


def test_a_store_that_tells_no_time_is_refused(behind: Any, weather: Any) -> None:
    weather.date = lambda: "soon"
    with pytest.raises(SettingsError, match="have no Date.*set checkpoint.store = 'file'"):
        S3Store(behind.store_config()).hold(STREAM.id).__enter__()


# -- versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["bare", "weak"])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_version_is_the_same_with_quotes_and_without(new_store: Any, weather: Any, form: str, method: str) -> None:
    weather.etag = lambda seen, etag: (
        etag if seen.method != method else etag.strip('"') if form == "bare" else f"W/{etag}"
    )
    with new_store().hold(STREAM.id):
        pass
    version = new_store().save(OLD, expected=None)
    found = new_store().load(STREAM.id)
    assert found.version == version
    new_store().save(NEW, expected=found.version)
    assert new_store().load(STREAM.id).checkpoint == NEW


def test_a_store_that_tells_a_version_in_two_ways_is_refused_at_once(new_store: Any, weather: Any) -> None:
    weather.etag = lambda seen, etag: '"00000000000000000000000000000001"' if seen.method == "GET" else etag
    with pytest.raises(SettingsError, match=r"does not tell the version \(ETag\) of an object alike"):
        new_store().save(OLD, expected=None)


# -- renewal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def short_lease(behind: Any, clock: Clock) -> Iterator[Lease]:
    """A lease of 150 ms by a clock that stands still: it is renewed every 50 ms, to an end that does not move."""
    faults = Faults(SettingsError, TryAgainError, TryAgainError)
    bucket = Bucket(behind.store_config(), faults, clock.monotonic)
    lease = Lease(bucket, f"{behind.prefix}state/{STREAM.id}.lease", timedelta(milliseconds=150))
    lease.acquire()
    yield lease
    bucket.close()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"


def test_a_lease_is_renewed_while_its_holder_lives(place: Any, short_lease: Lease, clock: Clock) -> None:
    with short_lease.renewed():
        clock.pass_by(hours=1)
        end = (clock() + timedelta(milliseconds=150)).isoformat()
        eventually(lambda: datetime.fromisoformat(lease_of(place)["ends_at"]).isoformat() == end)
        short_lease.require()


def test_a_renewal_that_fails_is_tried_again(place: Any, short_lease: Lease, clock: Clock, weather: Any) -> None:
    weather.strike("PUT lease", (503, "SlowDown"), times=2)
    with short_lease.renewed():
        clock.pass_by(hours=1)
        eventually(lambda: datetime.fromisoformat(lease_of(place)["ends_at"]) > clock())


def test_a_renewal_whose_answer_is_lost_moves_the_end_all_the_same(
    place: Any, short_lease: Lease, clock: Clock, weather: Any
) -> None:
    weather.strike("PUT lease", "lose", times=2)
    clock.pass_by(minutes=1)
    with pytest.raises(TryAgainError):
        short_lease.renew()
    clock.pass_by(minutes=1)
    short_lease.renew()
    assert datetime.fromisoformat(lease_of(place)["ends_at"]) == clock() + timedelta(milliseconds=150)
    short_lease.require_stored()


def test_a_holder_notices_that_it_was_robbed(place: Any, short_lease: Lease) -> None:
    def robbed() -> bool:
        try:
            short_lease.require()
        except CheckpointConflictError:
            return True
        return False

    with short_lease.renewed():
        claim = lease_of(place) | {"owner": "somebody else", "fence": 2}
        key = f"{place.prefix}state/{STREAM.id}.lease"
        place.client.put_object(Bucket=place.bucket, Key=key, Body=json.dumps(claim).encode())
        eventually(robbed)
    assert lease_of(place)["owner"] == "somebody else"
    assert not lease_of(place)["released"]


def test_other_objects_below_the_prefix_are_no_streams(place: Any, new_store: Any) -> None:
    new_store().save(OLD, expected=None)
    for name in ("notes.json", f"{STREAM.id}.json.bak", f"x/{STREAM.id}.json", f"{STREAM.id}.lease"):
        place.client.put_object(Bucket=place.bucket, Key=f"{place.prefix}state/{name}", Body=b"{}")
    assert list(new_store().streams()) == [STREAM.id]
