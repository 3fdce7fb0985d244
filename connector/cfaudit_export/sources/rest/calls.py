"""What is asked for -> one request of Cloudflare's API, and the reply in the form that whole records are read in."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx2
import msgspec

from cfaudit_export.http.exchange import ReplyTooLargeError
from cfaudit_export.http.retry_after import retry_after_seconds
from cfaudit_export.sources.codemode.fault import CodemodeFault
from cfaudit_export.sources.codemode.frame import VERSION, Failure, Frame, Header, Left
from cfaudit_export.sources.codemode.snippet import Parameters
from cfaudit_export.sources.mcp.bearer import Bearer
from cfaudit_export.sources.mcp.clock_skew import ServerClock
from cfaudit_export.sources.mcp.failures import failure_of

_MOST_WORDS = 1_000


class _Cursors(msgspec.Struct):
    after: str | None = None


class _Info(msgspec.Struct):
    cursor: str | None = None
    cursors: _Cursors | None = None


class _Page(msgspec.Struct):
    result: list[msgspec.Raw] | None = None
    success: bool = True
    result_info: _Info | None = None


class _Place(msgspec.Struct):
    time: Any = None


class _Single(msgspec.Struct):
    id: Any = None
    action: _Place | None = None


_PAGE, _SINGLE = msgspec.json.Decoder(_Page), msgspec.json.Decoder(_Single)


class RestCalls:
    """Asks Cloudflare's API. Fits `cfaudit_export.sources.codemode.calls.PageCalls`."""

    def __init__(self, url: str, http: httpx2.AsyncClient, bearer: Bearer, clock: ServerClock) -> None:
        """Build it.

        Args:
            url: of the API.
            http: sends requests, and follows no redirect.
            bearer: the credential on each of them.
            clock: the time.
        """
        self._url = url.rstrip("/")
        self._http = http
        self._bearer = bearer
        self._clock = clock

    async def ask(self, asked: Parameters) -> Frame | CodemodeFault:
        """Read one page, of the log or of the list of accounts.

        Raises:
            CallFailedError: there is no reply.
            CfauditError: from the credential.
        """
        address = f"{self._url}/accounts" if asked.listing else f"{self._url}/accounts/{asked.account}/logs/audit"
        cursor = (("cursor", asked.cursor),) if asked.cursor else ()
        try:
            reply = await self._http.get(address, params=[*asked.query, *cursor])
        except ReplyTooLargeError as error:
            return CodemodeFault("size", str(error))
        except Exception as error:  # whatever it is, the table of failures knows it
            raise self._bearer.problem or failure_of(error) from error
        if self._bearer.problem is not None:
            raise self._bearer.problem
        return self._framed(reply, asked)

    def _framed(self, reply: httpx2.Response, asked: Parameters) -> Frame:
        head = Header(
            v=VERSION,
            account=asked.account,
            status=reply.status_code,
            retry_after=self._retry_after(reply),
            ratelimit=reply.headers.get("ratelimit"),
            ray=reply.headers.get("cf-ray"),
            bytes=0,
            pages=[],
            err=None,
            left=None,
        )
        body = reply.content
        if reply.status_code != 200:
            head.err = Failure("status", reply.text[:_MOST_WORDS])
            return Frame(head, ())
        page = _page_of(body)
        if page is None or not page.success:
            head.err = Failure("body", "the reply is no page")
            return Frame(head, ())
        behind = _cursor_behind(page)
        if len(body) > asked.most:
            head.err = Failure("size", str(len(body)))
            if page.result is not None and len(page.result) == 1:  # nothing smaller can be asked for
                head.left = _left(page.result[0], behind)
            return Frame(head, ())
        head.bytes = len(body)
        head.pages.append((len(body), behind))
        return Frame(head, (memoryview(body),))

    def _retry_after(self, reply: httpx2.Response) -> str | None:
        seconds = retry_after_seconds(reply.headers.get("retry-after"), self._clock.ours())
        return None if seconds is None else str(math.ceil(seconds))


def _page_of(body: bytes) -> _Page | None:
    """Return what is outside of the rows of a page; None where it is no page.

    A page that holds a lone surrogate, which JSON allows in an escape, is read once more, tolerantly.
    """
    try:
        return _PAGE.decode(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        tree = json.loads(body)
        info = tree.get("result_info") or {}
        found = msgspec.convert(info, _Info)
        rows = [msgspec.Raw(b"{}") for _ in tree.get("result") or ()]
        return _Page(rows, tree.get("success") is not False, found)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None


def _cursor_behind(page: _Page) -> str | None:
    info = page.result_info
    if info is None:
        return None
    return info.cursor or (info.cursors.after if info.cursors else None) or None


def _left(row: msgspec.Raw, behind: str | None) -> Left:
    try:
        record = _SINGLE.decode(row)
    except (msgspec.DecodeError, RecursionError):
        return Left(None, None, behind)
    at = record.action.time if record.action else None
    return Left(record.id if isinstance(record.id, str) else None, at if isinstance(at, str) else None, behind)
