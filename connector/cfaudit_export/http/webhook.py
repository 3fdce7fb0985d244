"""Messages to an HTTP endpoint, signed as Standard Webhooks 1.0 wants it.

Three headers go along: `webhook-id`, the same when a message is sent again, `webhook-timestamp` and
`webhook-signature`: `v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`. The secret is `whsec_` and Base64.
The URL is a secret, too: no redirect is followed, and it is in no message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx2

from cfaudit_export.core.urls import is_safe
from cfaudit_export.errors import CfauditError, SettingsError, SinkError, SinkRefusedError
from cfaudit_export.http.exchange import open_client
from cfaudit_export.http.retry_after import retry_after_seconds

PREFIX = "whsec_"
_SECONDS = 30.0
_MOST_BYTES = 64 << 10
_LEAST_KEY = 24
_PASSING = {408, 425, 429}


def webhook_key(secret: str) -> bytes:
    """Return the bytes of a secret.

    Raises:
        SettingsError: it is none; the text does not show it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or len(key) < _LEAST_KEY:
        raise SettingsError(f"the secret of a webhook is '{PREFIX}' and the Base64 of {_LEAST_KEY} bytes or more")
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def check_webhook_url(url: str, what: str) -> None:
    """Refuse a URL that no secret may be sent to.

    Raises:
        SettingsError: it is one; the text does not show it.
    """
    if not is_safe(url):
        raise SettingsError(f"{what} must start with https://, and hold no name or password")


def send_webhook(
    url: str,
    message_id: str,
    body: bytes,
    *,
    key: bytes | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    seconds: float = _SECONDS,
) -> None:
    """Send a message once; sent again with the same id it is the same message.

    Args:
        url: of the endpoint.
        message_id: names the message for ever.
        body: JSON.
        key: signs it; None sends it unsigned.
        clock: the time, aware.
        seconds: longest time for the exchange.

    Raises:
        SinkError: it was not delivered, and may be later.
        SinkRefusedError: the endpoint is gone or refuses it for good.
        SettingsError: the URL cannot be used.
    """
    now = clock()
    timestamp = int(now.timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "cfaudit-export",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
    }
    if key is not None:
        headers["webhook-signature"] = signature(key, message_id, timestamp, body)
    host = urlsplit(url).hostname
    try:
        with open_client(seconds, most_bytes=_MOST_BYTES) as http:
            reply = http.post(url, content=body, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # Not the text of the error, which may have the URL.
        raise SinkError(f"webhook at '{host}' cannot be reached: {type(error).__name__}") from None
    if reply.is_success:
        return
    raise _refused(host, reply, now)


def _refused(host: str | None, reply: httpx2.Response, now: datetime) -> CfauditError:
    status = reply.status_code
    if status >= 500 or status in _PASSING:
        found = SinkError(f"webhook at '{host}' answers {status}; try again later")
        found.retry_after_seconds = retry_after_seconds(reply.headers.get("retry-after"), now)
        return found
    return SinkRefusedError(f"webhook at '{host}' refuses messages: it answers {status}")
