"""The REST endpoint of the audit log: parameters -> status, headers and body, as Cloudflare's API answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cfaudit_sandbox.server.api import listed
from cfaudit_sandbox.server.pages import PageCache, ToolText
from cfaudit_sandbox.server.upstream import Caller, Mishap, Upstream
from cfaudit_sandbox.world.query import FILTERS, AuditQuery, BadQueryError
from cfaudit_sandbox.world.text import instant, js
from cfaudit_sandbox.world.world import World

_MOST_ROWS = 1_000
_DEFAULT_ROWS = 100
_HTML = b"<html>oops</html>"
# The sandbox knows one category per product, of the same name.
_FILTER_NAMES: Mapping[str, str] = {
    **{name: name for name in FILTERS},
    "id": "audit_log_id",
    "product_category": "resource_product",
}
_KNOWN = {"since", "before", "direction", "limit", "cursor", *_FILTER_NAMES}


class ConnectionLostError(Exception):
    """The API's connection broke before it answered."""


@dataclass(frozen=True, slots=True)
class ApiReply:
    """What the API answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class AuditApi:
    """`GET /accounts/{account_id}/logs/audit`. Pages are rendered once."""

    def __init__(self, world: World, upstream: Upstream) -> None:
        self._world = world
        self._upstream = upstream
        self._cache = PageCache(world)

    def answer(self, caller: Caller, account_id: str, parameters: Sequence[tuple[str, str]]) -> ApiReply:
        """Answer a request.

        Raises:
            ConnectionLostError: it does not.
        """
        planned = self._upstream.planned("audit")
        mishap, retry_after = planned if planned is not None else (self._upstream.audit(caller), None)
        if mishap is not None:
            return _mishap_reply(mishap, retry_after)
        if account_id not in {account.id for account in self._upstream.accounts(caller)}:
            return error_reply(403, 10000, "Authentication error")
        try:
            return ApiReply(200, self._page(account_id, _read_query(parameters)))
        except BadQueryError as error:
            return error_reply(400, 7003, str(error))

    def accounts(self, caller: Caller, parameters: Sequence[tuple[str, str]]) -> ApiReply:
        """Answer `GET /accounts`: the accounts of the caller, page by page."""
        if self._upstream.charge(caller.owner) is not None:
            return error_reply(429, 10429, "Too many requests")
        if not caller.may_audit:
            return error_reply(403, 10000, "Authentication error")
        body = listed(self._upstream.accounts(caller), dict(parameters))
        return error_reply(400, 1001, "Invalid page") if body is None else ApiReply(200, js(body).encode())

    def _page(self, account_id: str, query: AuditQuery) -> bytes:
        key = self._cache.key(account_id, query)
        found = self._cache.get(key)
        if found is None:
            page = self._world.query(account_id, query)
            info: dict[str, object] = {"count": len(page.rows)}
            if page.cursor is not None:
                info["cursor"] = page.cursor
            rows = ",".join(self._world.record_texts(account_id, page))
            text = f'{{"success":true,"errors":[],"messages":[],"result":[{rows}],"result_info":{js(info)}}}'
            found = ToolText(text.encode())
            self._cache.put(key, found)
        return found.escaped


def error_reply(status: int, code: int, message: str, retry_after: int | None = None) -> ApiReply:
    """Word a failure as the API does."""
    body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
    return ApiReply(status, js(body).encode(), {} if retry_after is None else {"retry-after": str(retry_after)})


def _mishap_reply(mishap: Mishap, retry_after: int | None) -> ApiReply:
    if mishap == "drop":
        raise ConnectionLostError
    if mishap == "html":
        return ApiReply(200, _HTML)
    if mishap == "empty":
        return ApiReply(200, b"")
    if mishap == 429:
        return error_reply(429, 10429, "Too many requests", retry_after)
    if mishap >= 500:
        return ApiReply(mishap, _HTML)
    return error_reply(mishap, 10000, "Authentication error" if mishap in (401, 403) else f"injected {mishap}")


def _read_query(parameters: Sequence[tuple[str, str]]) -> AuditQuery:
    """Read the parameters of a request.

    Raises:
        BadQueryError: one is missing, unknown, doubled or malformed.
    """
    given = dict(parameters)
    if unknown := sorted(set(given) - _KNOWN):
        raise BadQueryError(f"the sandbox does not know the parameter '{unknown[0]}'")
    if len(given) != len(parameters):
        raise BadQueryError("the sandbox takes each parameter once")
    for name in ("since", "before"):
        if name not in given:
            raise BadQueryError(f"Invalid format for parameter {name}: query parameter '{name}' is required")
    try:
        limit, since_ns, before_ns = (
            int(given.get("limit", _DEFAULT_ROWS)),
            *map(instant, (given["since"], given["before"])),
        )
        filters = tuple(
            (_FILTER_NAMES[name], int(value) if name == "raw_status_code" else value)
            for name, value in given.items()
            if name in _FILTER_NAMES
        )
    except ValueError as error:
        raise BadQueryError("Invalid format for a parameter") from error
    if not 1 <= limit <= _MOST_ROWS or given.get("direction", "desc") not in ("asc", "desc"):
        raise BadQueryError("Invalid value for a parameter")
    return AuditQuery(
        since_ns,
        before_ns,
        direction="asc" if given.get("direction") == "asc" else "desc",
        limit=limit,
        cursor=given.get("cursor", ""),
        filters=filters,
    )
