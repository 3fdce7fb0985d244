"""The notes of batches in a bucket, and what can be made of one: who comes next completes what it lists."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping

from cfaudit_export import LoadUnknownError, Receipt, SinkError, SinkRefusedError, StoredFile
from cfaudit_s3.bucket import Bucket, FoundObject
from cfaudit_s3.note import DayObject, Note

_LOG = logging.getLogger(__name__)


class Notes:
    """The notes in one folder of a bucket."""

    def __init__(self, bucket: Bucket, base: str, folder: str) -> None:
        """Build it.

        Args:
            bucket: the bucket.
            base: what all keys have in common; names of files in receipts are without it.
            folder: where the notes are below it.
        """
        self._bucket = bucket
        self._base = base
        self._folder = f"{base}{folder}"
        self._warned = False

    def agree(self, note: Note) -> Receipt | None:
        """Have our note stand; or complete what an earlier one lists, and return the receipt of that.

        Raises:
            LoadUnknownError: our note may stand now.
            SinkError: another run is loading this batch.
            SinkRefusedError: the batch was begun under other keys and cannot be completed there.
        """
        key, body = self._key(note.batch_id), note.encode()
        if self._bucket.put_new(key, body):
            self._warn_unless(conditional=self._bucket.learn_conditions(key, body))
            return None
        found = self.read(note.batch_id)
        if found and found[0].attempt != note.attempt:
            stands, etag = found
            if done := self.completed(stands):
                return done
            self._refuse_strays(stands, note)
            if self._bucket.put_over(key, body, etag):
                self.abort(stands)
                return None
            found = self.read(note.batch_id)
        if found and found[0].attempt == note.attempt:  # only the answer was lost
            return None
        raise SinkError(f"another run is loading batch '{note.batch_id}'; try again when it has ended")

    def read(self, batch_id: str) -> tuple[Note, str] | None:
        """Return the note of a batch and its ETag, None when nothing of the batch can have been stored.

        Raises:
            LoadUnknownError: there is one, and it cannot be read.
        """
        key = self._key(batch_id)
        found = self._bucket.get(key)
        if found is None:
            return None
        try:
            return Note.decode(found.body), found.etag
        except ValueError as error:
            raise LoadUnknownError(f"'{self._bucket.url(key)}' was altered since; restore it") from error

    def completed(self, note: Note) -> Receipt | None:
        """Complete a batch of which something can be seen; None where nothing can, or an upload is gone."""
        there = self.visible(note)
        if not there:
            return None
        stored = False
        for piece in note.pieces:
            if piece.key in there:
                continue
            if piece.upload_id and self._bucket.complete(piece.key, piece.upload_id, piece.parts) == "stored":
                self.require(piece, note.attempt)
                stored = True
            elif found := self.look(piece):
                there[piece.key] = found
            else:
                return None
        return self.receipt(note, there, already=not stored)

    def visible(self, note: Note) -> dict[str, FoundObject]:
        """Return the objects of a note that are there, by their keys."""
        return {piece.key: found for piece in note.pieces if (found := self.look(piece))}

    def look(self, piece: DayObject) -> FoundObject | None:
        """Look at the object of a piece; None when it is not there.

        Raises:
            SinkRefusedError: another object has its key.
        """
        found = self._bucket.head(piece.key)
        if found:
            said = found.metadata
            # Objects of versions that did not say how many events they have are told by their digest alone.
            if said.get("cfaudit-digest") != piece.digest or said.get("cfaudit-rows", str(piece.rows)) != str(
                piece.rows
            ):
                raise SinkRefusedError(
                    f"'{self._bucket.url(piece.key)}' is there, but does not hold the events it should; move it away"
                )
        return found

    def require(self, piece: DayObject, attempt: str) -> None:
        """Make sure that the object of a piece is there, once the store has said that it completed its upload.

        Raises:
            LoadUnknownError: it is not, or not whole.
            SinkRefusedError: another object has its key.
        """
        found = self.look(piece)
        is_ours = found is not None and found.metadata.get("cfaudit-attempt") == attempt
        if found is None or (is_ours and piece.size not in (None, found.size)):
            size = "is not there" if found is None else f"has {found.size} of {piece.size} bytes"
            raise LoadUnknownError(
                f"the store says that it completed '{self._bucket.url(piece.key)}', which {size}; the batch comes again"
            )

    def abort(self, note: Note) -> None:
        """Throw away the uploads that a note lists."""
        for piece in note.pieces:
            if piece.upload_id:
                self._bucket.abort(piece.key, piece.upload_id)

    def receipt(self, note: Note, there: Mapping[str, FoundObject], *, already: bool) -> Receipt:
        """Return the receipt for all that a note lists.

        Args:
            note: the note.
            there: objects, by their keys, that were there before: another attempt may have made them.
            already: whether nothing was stored now.
        """
        urls = tuple(self._bucket.url(piece.key) for piece in note.pieces)
        rows = sum(piece.rows for piece in note.pieces)
        files = tuple(self._file(piece, note, there.get(piece.key)) for piece in note.pieces)
        return Receipt(note.batch_id, rows, urls, already=already, files=files)

    def _file(self, piece: DayObject, note: Note, found: FoundObject | None) -> StoredFile:
        """Return what a receipt says of an object; one that is not as the note has it is read for that."""
        name = piece.key.removeprefix(self._base)
        is_ours = found is None or found.metadata.get("cfaudit-attempt") == note.attempt
        if is_ours and piece.sha256 and piece.size is not None:
            return StoredFile(name, piece.size, piece.sha256, piece.rows)
        read = self._bucket.get(piece.key)
        if read is None:
            raise LoadUnknownError(f"'{self._bucket.url(piece.key)}' was removed just now; the batch comes again")
        return StoredFile(name, len(read.body), hashlib.sha256(read.body).hexdigest(), piece.rows)

    def _key(self, batch_id: str) -> str:
        return f"{self._folder}{batch_id}.json"

    def _refuse_strays(self, stands: Note, note: Note) -> None:
        """Refuse to store events under new keys while old keys, of another prefix, have a part of them."""
        ours = {piece.key for piece in note.pieces}
        for key in self.visible(stands):
            if key not in ours:
                raise SinkRefusedError(
                    f"batch '{note.batch_id}' was begun with another prefix, see '{self._bucket.url(key)}'; "
                    "set that prefix until the batch is loaded"
                )

    def _warn_unless(self, *, conditional: bool) -> None:
        if not conditional and not self._warned:
            self._warned = True
            _LOG.warning(
                "store ignores conditional writes; a batch that comes again replaces itself",
                extra={"endpoint": self._bucket.endpoint, "bucket": self._bucket.url("")},
            )
