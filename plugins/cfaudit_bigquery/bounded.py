"""Requests to BigQuery that have an end: Google's library only limits each silence of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession

from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.core.redaction import Redaction
from cfaudit_export.http.bounded_requests import bound


class BoundedSession(AuthorizedSession):
    """A session of Google's whose every exchange is over in time, the renewal of a token included.

    Raises, beside what any session raises:
        requests.ReadTimeout: an exchange is not; what was asked for may have been done.
        requests.exceptions.ContentDecodingError: an answer has more bytes than any of BigQuery has here.
    """

    def __init__(self, credentials: Credentials, seconds: float) -> None:
        super().__init__(credentials)  # type: ignore[no-untyped-call]  # Google's
        self._seconds = seconds
        self._redaction = Redaction()
        bound(self)

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request and read its answer to the end, without the token; as `requests.Session.request`."""
        ask: Callable[..., requests.Response] = super().request
        try:
            reply = Deadline.after(self._seconds).run(lambda: ask(*arguments, **options))
        except DeadlineError as error:
            raise requests.ReadTimeout(str(error)) from error
        if not reply.ok:
            self._redaction.hide(self.credentials.token)
            reply._content = self._redaction.reply(reply.content)  # noqa: SLF001  # the library has no other way
            reply.reason = self._redaction(reply.reason or "")
        return reply
