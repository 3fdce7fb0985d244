"""Which accounts a credential can use, page by page, however many there are.

The server names them in an error, at most 30 and in a text that may be cut: good enough for a few, never for all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError, ProtocolError, SettingsError
from cfaudit_export.sources.codemode.frame import Frame
from cfaudit_export.sources.codemode.size import MOST_BYTES
from cfaudit_export.sources.codemode.snippet import Parameters

PER_PAGE = 50  # the most that the endpoint gives
_MOST_PAGES = 400

Accounts = tuple[tuple[str, str], ...]


class _Account(msgspec.Struct):
    id: str
    name: str | None = None


class _Info(msgspec.Struct):
    total_count: int | None = None


class _Page(msgspec.Struct):
    result: list[_Account]
    result_info: _Info | None = None


_DECODER = msgspec.json.Decoder(_Page)


async def all_accounts(read: Callable[[Parameters], Awaitable[Frame]], known: Accounts) -> Accounts:
    """Return id and name of every account, in the order of Cloudflare's API.

    Args:
        read: asks the server.
        known: those that the server named by itself; for the message.

    Raises:
        AccessError: there is none.
        SettingsError: the credential may not read the list, or it ends before the number of accounts that it states.
        ThrottledError, SourceUnavailableError: there is no answer now.
    """
    found, total = dict[str, str](), None
    for number in range(1, _MOST_PAGES + 1):
        query = (("page", str(number)), ("per_page", str(PER_PAGE)))
        try:
            frame = await read(Parameters(None, query, pages=1, most=MOST_BYTES, listing=True))
        except (AccessError, ProtocolError) as error:
            raise _incomplete(len(found) or len(known), total, str(error)) from error
        page = _decoded(frame, len(found) or len(known))
        before = len(found)
        found |= {one.id: shown(one.name or "") for one in page.result}
        total = page.result_info.total_count if page.result_info else None
        is_last = len(found) >= total if total is not None else len(page.result) < PER_PAGE
        if is_last:
            if not found:
                raise AccessError("this credential has access to no account; grant it 'Account Settings: Read' on one")
            return tuple(found.items())
        if len(found) == before:
            break
    raise _incomplete(len(found), total)


def _incomplete(known: int, total: int | None, why: str = "") -> SettingsError:
    """Return the error for a list of accounts that cannot be read to its end."""
    of = f" of {total}" if total is not None else ""
    because = f" ({why})" if why else ""
    return SettingsError(
        f"the server lists {known}{of} accounts of this credential and not all{because}; name those to export with "
        "--account, several times where there are several"
    )


def _decoded(frame: Frame, known: int) -> _Page:
    try:
        return _DECODER.decode(frame.bodies[0])
    except (msgspec.MsgspecError, IndexError) as error:
        raise _incomplete(known, None, "its list of accounts has an unknown form") from error
