"""The conformance suite for checkpoint stores. Needs pytest.

Subclass it in a test module, say how to open an empty store, and every promise of `cfaudit_export.CheckpointStore`
that can be seen from one machine is tested against yours:

    class TestMyStore(CheckpointStoreContract):
        @pytest.fixture
        def new_store(self, tmp_path):
            return lambda: MyStore(tmp_path)

Every call of `new_store()` within one test opens the same store anew, as another process would.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar, cast

import pytest

from cfaudit_export import (
    CfauditError,
    Checkpoint,
    CheckpointConflictError,
    CheckpointStore,
    Gap,
    LockedError,
    StoredFile,
    Stream,
    Window,
)
from cfaudit_export.core.model import Intent, Lateness, Proof, Seen, SeenWindow, SinkProgress, Unsealed
from cfaudit_export.plugin.interfaces import BlobStore
from cfaudit_export.testing.shared_contract import SharedDocumentsContract

T = TypeVar("T")
NewStore = Callable[[], CheckpointStore]

_NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
_RIVALS = 8


def full_checkpoint(stream: Stream | None = None) -> Checkpoint:
    """Return a checkpoint in which every field holds something, texts in several scripts among it."""
    window = Window(_NOON, _NOON + timedelta(milliseconds=1))
    progress = SinkProgress(
        covered=(
            Window(_NOON - timedelta(days=400), _NOON),
            Window(_NOON + timedelta(hours=1), _NOON.replace(hour=20)),
        ),
        seen=Seen(
            {"2026-11-20T11": "AAECAwQ=", "2026-11-20T12": ""},
            gaps=(SeenWindow(window, "CQoL"),),
            refilled=(SeenWindow(Window(_NOON - timedelta(hours=1), _NOON), ""),),
        ),
        seen_since=_NOON - timedelta(hours=1, microseconds=1),
        intents=(Intent("ab" * 16, window, 17, "cd" * 32, seen=Seen({"2026-11-20T12": "BQYH"}), late_rows=2),),
        rows=1 << 40,
        quarantined=3,
        proof=Proof(
            sequence=7,
            sha256="12" * 32,
            covered=(Window(_NOON - timedelta(days=3), _NOON),),
            fresh=(window,),
            unsealed=(
                Unsealed(
                    "34" * 16,
                    window,
                    5,
                    1,
                    _NOON,
                    _NOON + timedelta(microseconds=1),
                    "56" * 32,
                    "78" * 32,
                    (StoredFile("account_id=x/zażółć.parquet", 1 << 40, "9a" * 32, 5),),
                    {"full": 4, "shadow": 1},
                    (("shadow", "event"),),
                ),
                Unsealed("bc" * 16, window, 2),
            ),
            listed=(window,),
            merged=("0f3c1e5a7b9d2468/s3:3:" + "de" * 32,),
            outside=(Window(_NOON - timedelta(days=5), _NOON - timedelta(days=4)),),
        ),
    )
    return Checkpoint(
        stream=stream or Stream("0f3c1e5a7b9d2468ace013579bdf2468", "auditlogs", (("actor_email", "zoë@例え.jp"),)),
        sinks={"parquet": progress, "splunk": SinkProgress()},
        gaps=(Gap(window, 2, 'actor.type: "🦊"\n\\ \u2028', _NOON, _NOON, attempts=4, shadows=("ef" * 16,)),),
        lateness=Lateness(5, 123.456789, {1: 2, 360: 2, -1: 1}),
        tool="sha256:1234",
        updated_at=_NOON + timedelta(microseconds=123456),
        leased=(Window(_NOON - timedelta(days=500), _NOON - timedelta(days=450)),),
        signature="ab" * 32 + ":YmFzZTY0",
    )


class CheckpointStoreContract(SharedDocumentsContract):
    """Tests of `cfaudit_export.CheckpointStore`; a subclass gives the fixture `new_store`."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        """Return what opens the store that this test uses; it is empty before the first call."""
        raise NotImplementedError("override the fixture 'new_store'")

    @pytest.fixture
    def impostors(self) -> tuple[NewStore, ...]:
        """Return stores of which some requests are answered by something else, such as a proxy; to be overridden.

        Its pages, refusals, empty successes and 404s are not those of the place where the checkpoints are.
        """
        return ()

    def test_nothing_counts_as_absent_on_the_word_of_something_else(
        self, new_store: NewStore, impostors: tuple[NewStore, ...]
    ) -> None:
        """A stream that is taken for a new one is exported twice."""
        store = new_store()
        store.save(_checkpoint(1, 1), expected=None)
        with store.hold(_stream(1).id):
            for impostor in impostors:
                other = impostor()
                assert _answered(partial(other.load, _stream(1).id)) is not None
                assert _answered(partial(_streams, other)) != []
                with pytest.raises(CfauditError), other.hold(_stream(1).id):
                    pass

    def test_nothing_counts_as_saved_on_the_word_of_something_else(
        self, new_store: NewStore, impostors: tuple[NewStore, ...]
    ) -> None:
        """A save that did not happen, and is believed, is a checkpoint that lags behind what was delivered."""
        for number, impostor in enumerate(impostors, start=1):
            version = new_store().save(_checkpoint(number, 1), expected=None)
            if _answered(partial(impostor().save, _checkpoint(number, 2), expected=version)):
                assert _loaded(new_store, number) == _checkpoint(number, 2)

    def test_a_stream_that_was_never_saved_has_no_checkpoint(self, new_store: NewStore) -> None:
        """None, and not an error: every stream begins so."""
        assert new_store().load(_stream(1).id) is None
        assert list(new_store().streams()) == []

    def test_what_is_saved_is_loaded_elsewhere_field_by_field(self, new_store: NewStore) -> None:
        """Nothing is rounded, reordered or lost, and the version is the one that `save` returned."""
        checkpoint = full_checkpoint()
        version = new_store().save(checkpoint, expected=None)
        found = new_store().load(checkpoint.stream.id)
        assert found is not None
        assert found.checkpoint == checkpoint
        assert found.version == version

    def test_versions_can_be_chained(self, new_store: NewStore) -> None:
        """A run saves many times and loads once."""
        store = new_store()
        version = None
        for day in range(1, 6):
            version = store.save(_checkpoint(1, day), expected=version)
        found = new_store().load(_stream(1).id)
        assert found is not None
        assert found.checkpoint == _checkpoint(1, 5)

    def test_a_first_save_does_not_overwrite(self, new_store: NewStore) -> None:
        """`expected=None` says that there is none."""
        new_store().save(_checkpoint(1, 1), expected=None)
        with pytest.raises(CheckpointConflictError):
            new_store().save(_checkpoint(1, 2), expected=None)
        assert _loaded(new_store, 1) == _checkpoint(1, 1)

    def test_a_save_upon_an_old_version_changes_nothing(self, new_store: NewStore) -> None:
        """A run that read before another one wrote must not undo that."""
        old = new_store().save(_checkpoint(1, 1), expected=None)
        new_store().save(_checkpoint(1, 2), expected=old)
        with pytest.raises(CheckpointConflictError):
            new_store().save(_checkpoint(1, 3), expected=old)
        assert _loaded(new_store, 1) == _checkpoint(1, 2)

    def test_a_save_upon_a_version_of_nothing_creates_nothing(self, new_store: NewStore) -> None:
        """A checkpoint that was removed meanwhile does not come back by accident."""
        version = new_store().save(_checkpoint(1, 1), expected=None)
        with pytest.raises(CheckpointConflictError):
            new_store().save(_checkpoint(2, 1), expected=version)
        assert new_store().load(_stream(2).id) is None

    def test_of_many_writers_at_once_exactly_one_wins(self, new_store: NewStore) -> None:
        """Compare and replace are one step."""
        version = new_store().save(_checkpoint(1, 1), expected=None)
        start = threading.Barrier(_RIVALS)

        def try_to_save(day: int) -> Checkpoint | None:
            store, checkpoint = new_store(), _checkpoint(1, day)
            start.wait(timeout=30)
            try:
                store.save(checkpoint, expected=version)
            except CheckpointConflictError:
                return None
            return checkpoint

        with ThreadPoolExecutor(_RIVALS) as pool:
            outcomes = list(pool.map(try_to_save, range(2, 2 + _RIVALS)))
        winners = [checkpoint for checkpoint in outcomes if checkpoint]
        assert len(winners) == 1
        assert _loaded(new_store, 1) == winners[0]

    def test_a_checkpoint_of_some_megabytes_comes_back(self, new_store: NewStore) -> None:
        """A rescan horizon of a busy account holds hundreds of thousands of keys."""
        seen = {f"2026-11-{day:02d}T{hour:02d}": "x" * 50_000 for day in (19, 20) for hour in range(24)}
        checkpoint = replace(_checkpoint(1, 1), sinks={"s3": SinkProgress(seen=Seen(seen), seen_since=_NOON)})
        new_store().save(checkpoint, expected=None)
        assert _loaded(new_store, 1) == checkpoint

    def test_streams_are_listed_sorted_and_do_not_mix(self, new_store: NewStore) -> None:
        """Each stream has its own checkpoint, also while it is held."""
        numbers = range(1, 6)
        for number in numbers:
            new_store().save(_checkpoint(number, number), expected=None)
        with new_store().hold(_stream(9).id):
            assert list(new_store().streams()) == sorted(_stream(number).id for number in numbers)
        assert [_loaded(new_store, number) for number in numbers] == [_checkpoint(number, number) for number in numbers]

    def test_files_of_a_stream_are_kept_beside_its_checkpoint(self, new_store: NewStore) -> None:
        """Only for a store that has a place for them (`cfaudit_export.plugin.interfaces.BlobStore`)."""
        if not hasattr(new_store(), "keep"):
            return  # it promises none
        store, other = cast("BlobStore", new_store()), cast("BlobStore", new_store())
        first, second = _stream(1).id, _stream(2).id
        assert list(store.kept(first)) == []
        assert store.fetch(first, "s/none") is None
        store.keep(first, "s/b.json", b"old")
        store.keep(first, "s/b.json", b"new")
        store.keep(first, "s/a.arrow", bytes(range(256)))
        store.keep(second, "s/a.arrow", b"another")
        new_store().save(_checkpoint(1, 1), expected=None)
        assert list(other.kept(first)) == ["s/a.arrow", "s/b.json"]
        assert (other.fetch(first, "s/b.json"), other.fetch(first, "s/a.arrow")) == (b"new", bytes(range(256)))
        assert list(new_store().streams()) == [first]
        other.drop(first, "s/a.arrow")
        other.drop(first, "s/a.arrow")
        assert list(store.kept(first)) == ["s/b.json"]
        assert store.fetch(second, "s/a.arrow") == b"another"

    def test_a_held_stream_is_held_against_others(self, new_store: NewStore) -> None:
        """The second is told at once, and may have it when the first has ended."""
        with new_store().hold(_stream(1).id), pytest.raises(LockedError), new_store().hold(_stream(1).id):
            pass
        with new_store().hold(_stream(1).id):
            pass

    def test_holding_a_stream_leaves_the_others_free(self, new_store: NewStore) -> None:
        """Accounts are exported side by side."""
        with new_store().hold(_stream(1).id), new_store().hold(_stream(2).id):
            pass

    def test_a_holder_that_fails_lets_go(self, new_store: NewStore) -> None:
        """An error leaves through the context like anything else."""
        with pytest.raises(ZeroDivisionError), new_store().hold(_stream(1).id):
            raise ZeroDivisionError
        with new_store().hold(_stream(1).id):
            pass

    def test_a_held_stream_can_be_loaded_and_saved(self, new_store: NewStore) -> None:
        """The holder saves, and `status` reads, while a run lasts."""
        store = new_store()
        with store.hold(_stream(1).id):
            store.save(_checkpoint(1, 1), expected=None)
            assert _loaded(new_store, 1) == _checkpoint(1, 1)


def _streams(store: CheckpointStore) -> list[str]:
    return list(store.streams())


def _stream(number: int) -> Stream:
    return Stream(f"{number:032x}", "auditlogs")


def _checkpoint(number: int, day: int) -> Checkpoint:
    return Checkpoint(_stream(number), updated_at=datetime(2026, 11, day, tzinfo=UTC))


def _answered(ask: Callable[[], T]) -> T | str:
    """Return an answer, or that there was none."""
    try:
        return ask()
    except CfauditError:
        return ""


def _loaded(new_store: NewStore, number: int) -> Checkpoint | None:
    found = new_store().load(_stream(number).id)
    return found.checkpoint if found else None
