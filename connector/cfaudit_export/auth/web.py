"""A URL that another server named -> the JSON object behind it, or an error that says who failed and how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from cfaudit_export.core.causes import is_untrusted
from cfaudit_export.core.escape import shown
from cfaudit_export.core.urls import is_safe, origin_of
from cfaudit_export.errors import ProtocolError, SettingsError, SourceUnavailableError

if TYPE_CHECKING:
    import httpx2

TIMEOUT_SECONDS = 20.0
MOST_BYTES = 1_000_000  # of metadata, and of the answers of token endpoints
UNTRUSTED = "the certificate of '{}' is not trusted; name the certificates to trust in SSL_CERT_FILE"
_REDIRECTS = 3


def open_http(home: str = "", headers: Mapping[str, str] | None = None) -> httpx2.Client:
    """Return a client that trusts what the system trusts, takes proxies from the environment, and follows nothing.

    `headers` go along with requests to the origin of `home`, and to no other.
    """
    from cfaudit_export.http.exchange import open_client

    def add_headers(request: httpx2.Request) -> None:
        if headers and origin_of(str(request.url)) == origin_of(home):
            request.headers.update(headers)

    return open_client(TIMEOUT_SECONDS, most_bytes=MOST_BYTES, event_hooks={"request": [add_headers]})


def refusal_of(response: httpx2.Response) -> str:
    """Return what an error reply says, in one line: the status and, where there is one, the OAuth error."""
    said = object_in(response) or {}
    words = [shown(said[key]) for key in ("error", "error_description") if isinstance(said.get(key), str)]
    return ": ".join([f"HTTP {response.status_code}", *words])


def object_in(response: httpx2.Response) -> dict[str, Any] | None:
    """Return the JSON object that a reply consists of, None when it is anything else."""
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def send(http: httpx2.Client, method: str, url: str, **content: Any) -> httpx2.Response:
    """Send a request and return the reply, whatever its status below 500 but 429.

    Raises:
        SourceUnavailableError: no reply, or the server says that it cannot answer now.
        SettingsError: its certificate is not trusted.
        ProtocolError: nothing can be sent to such a URL, or the reply is far too large.
    """
    import httpx2

    from cfaudit_export.http.exchange import ReplyTooLargeError

    try:
        response = http.request(method, url, **content)
    except ReplyTooLargeError as error:
        raise ProtocolError(f"'{shown(url)}' does not answer like an authorization server: {error}") from error
    except httpx2.RequestError as error:
        if is_untrusted(error):
            raise SettingsError(f"{UNTRUSTED.format(shown(url))}: {describe(error)}") from error
        raise SourceUnavailableError(f"'{shown(url)}' cannot be reached: {describe(error)}") from error
    except httpx2.InvalidURL as error:
        raise ProtocolError(f"'{shown(url)}' is not a URL: {shown(error)}") from error
    if response.status_code >= 500 or response.status_code == 429:
        raise SourceUnavailableError(f"'{shown(url)}' answered {refusal_of(response)}; try again later")
    return response


def describe(error: Exception) -> str:
    """Return one line for a connection that failed."""
    return shown(error) or type(error).__name__


def first_object(
    http: httpx2.Client, urls: Iterable[str], what: str, *, insecure_http: bool = False
) -> tuple[str, dict[str, Any]] | None:
    """Return the first of `urls` that holds a JSON object, and the object; None when the server denies them all.

    A redirect is followed within its origin only.

    Raises:
        SourceUnavailableError: a server cannot answer now.
        ProtocolError: a URL or redirect leads where we do not go.
    """
    for url in urls:
        response = _get(http, url, what, insecure_http=insecure_http)
        found = object_in(response) if response.status_code == 200 else None
        if found is not None:
            return url, found
    return None


def _get(http: httpx2.Client, url: str, what: str, *, insecure_http: bool) -> httpx2.Response:
    target = url
    for _ in range(_REDIRECTS + 1):
        if not is_safe(target, insecure_http=insecure_http):
            raise ProtocolError(f"{what} at '{shown(target)}' is not fetched: only https is allowed")
        if origin_of(target) != origin_of(url):
            raise ProtocolError(f"'{shown(url)}' redirects to another server, '{shown(target)}'; that is not followed")
        response = send(http, "GET", target, headers={"Accept": "application/json"})
        if not response.has_redirect_location:
            return response
        target = _joined(target, response.headers["location"])
    raise ProtocolError(f"{what} at '{shown(url)}' is behind more than {_REDIRECTS} redirects")


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        return location
