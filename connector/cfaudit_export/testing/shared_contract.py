"""What the conformance suite of checkpoint stores asks of their shared documents, where they have any. Needs pytest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import cast

from cfaudit_export import CheckpointStore
from cfaudit_export.plugin.shared_documents import SharedDocuments

NewStore = Callable[[], CheckpointStore]

_RIVALS = 8
_DAY_SECONDS = 86_400


class SharedDocumentsContract:
    """A part of `CheckpointStoreContract`."""

    def test_a_shared_document_is_replaced_by_one_of_several_rivals(self, new_store: NewStore) -> None:
        """Only for a store that has them (`cfaudit_export.plugin.shared_documents.SharedDocuments`)."""
        if not isinstance(new_store(), SharedDocuments):
            return  # it promises none
        stores = [cast("SharedDocuments", new_store()) for _ in range(_RIVALS)]
        assert stores[0].find_shared("a-1.b") is None
        with ThreadPoolExecutor(_RIVALS) as pool:
            first = list(
                pool.map(lambda at: stores[at].swap_shared("a-1.b", b"%d" % at, expected=None), range(_RIVALS))
            )
            found = stores[0].find_shared("a-1.b")
            assert found is not None
            assert found[0] == b"%d" % first.index(True)
            again = list(
                pool.map(lambda at: stores[at].swap_shared("a-1.b", b"new", expected=found[1]), range(_RIVALS))
            )
        assert (first.count(True), again.count(True)) == (1, 1)
        assert not stores[0].swap_shared("a-1.b", b"late", expected=found[1])
        assert [one.find_shared("a-1.b") == stores[0].find_shared("a-1.b") for one in stores] == [True] * _RIVALS
        assert list(new_store().streams()) == []
        ahead = [one.shared_now() - datetime.now(UTC).timestamp() for one in stores]
        assert max(map(abs, ahead)) < _DAY_SECONDS
