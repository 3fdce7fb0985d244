"""The text of a reply -> its header and the bodies of its pages, or the certainty that something is missing.

Servers of this kind cut long replies off, by default and each generation in its own way. So the header says how many
bytes follow, and every byte is accounted for before anything is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import ProtocolError

VERSION = 1
# Every generation marks what it cuts with these words: behind the text, or as a member of the JSON it shrinks.
_NOTICE = b"--- TRUNCATED ---"
_NOTICE_BYTES = 400


class Failure(msgspec.Struct):
    """Why the snippet stopped early.

    Attributes:
        kind: `status`: the API answered with another status than 200; `size`: the next page is larger than allowed;
            `body`: a reply that is no page; `thrown`: anything else, such as a broken connection.
        text: the words, at most 1,000 characters; with `size` the bytes of that page.
    """

    kind: str
    text: str


class Left(msgspec.Struct):
    """The one record of a page that is too large for a reply, and so is left out.

    Attributes:
        id: its id, where it is a text.
        time: its time, likewise.
        cursor: where the next page starts.
    """

    id: str | None
    time: str | None
    cursor: str | None


class Header(msgspec.Struct, rename="camel"):
    """The first line of a reply.

    Attributes:
        v: version of the form.
        account: whose log was read.
        status: HTTP status of the last request; None when there was none.
        retry_after: its header of that name.
        ratelimit: its header of that name.
        ray: its ray id.
        bytes: of all pages together.
        pages: bytes of each page, and the cursor behind it.
        err: why there are no more pages, None when nothing went wrong.
        left: what is too large, where that is a single record.
    """

    v: int
    account: str | None
    status: int | None
    retry_after: str | None
    ratelimit: str | None
    ray: str | None
    bytes: int
    pages: list[tuple[int, str | None]]
    err: Failure | None
    left: Left | None


@dataclass(frozen=True, slots=True)
class Frame:
    """A reply of which nothing is missing: the header, and the bytes of each page."""

    header: Header
    bodies: tuple[memoryview, ...]


_DECODER = msgspec.json.Decoder(Header)


class CutError(Exception):
    """The server, or something before it, has cut a reply off: asking for less brings a whole one.

    Attributes:
        kept: bytes that were left of it.
    """

    def __init__(self, kept: int) -> None:
        super().__init__(f"replies are cut off after {kept} bytes")
        self.kept = kept


def read_frame(text: str) -> Frame:
    """Take a reply apart.

    Raises:
        CutError: the reply says that it was cut off.
        ProtocolError: the reply is not ours, or not all of it arrived.
    """
    reply = text.encode("utf-8", "surrogatepass")
    end = reply.find(b"\n")
    try:
        header = _DECODER.decode(reply[: end if end >= 0 else len(reply)])
    except msgspec.DecodeError as error:
        _check_whole(reply)
        raise ProtocolError(f"the server answered something unknown: '{shown(text)[:100]}'") from error
    if header.v != VERSION:
        raise ProtocolError(f"the server's reply has version {header.v} of its form, not {VERSION}")
    rest = memoryview(reply)[end + 1 :]
    if len(rest) != header.bytes or sum(size for size, _ in header.pages) != header.bytes:
        _check_whole(reply)
        raise ProtocolError(
            f"the reply was changed in transit: {len(rest)} of {header.bytes} bytes arrived; "
            "a gateway in between must not change replies"
        )
    bodies, start = [], 0
    for size, _ in header.pages:
        bodies.append(rest[start : start + size])
        start += size
    return Frame(header, tuple(bodies))


def _check_whole(reply: bytes) -> None:
    for place in (reply.rfind(_NOTICE, max(len(reply) - _NOTICE_BYTES, 0)), reply.find(_NOTICE, 0, _NOTICE_BYTES)):
        if place >= 0:
            raise CutError(place)
