"""A peer that says back what it was sent: its answers come without the secrets that only a client knows.

Secrets of settings and of the environment are hidden where texts are shown (`core.redaction`). What a library fetches
for itself, such as the session token of a role, is not among them.
"""

from __future__ import annotations

from typing import Any

from cfaudit_export.core.redaction import Redaction

_HEADER = "X-Amz-Security-Token"


def hide_session_tokens(client: Any) -> None:
    """Let the errors that a client of boto3 is answered with come without the session token that it sent."""
    redaction = Redaction()

    def sent(request: Any, **_: Any) -> None:
        token = request.headers.get(_HEADER) or ""
        redaction.hide(token.decode() if isinstance(token, bytes) else token)

    def heard(response_dict: dict[str, Any], **_: Any) -> None:
        if isinstance(response_dict["body"], bytes) and response_dict["status_code"] >= 300:
            response_dict["body"] = redaction.reply(response_dict["body"])

    client.meta.events.register("before-send", sent)
    client.meta.events.register_first("before-parse", heard)
