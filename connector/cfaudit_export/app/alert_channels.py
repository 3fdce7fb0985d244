"""Where findings are told: a webhook, the services that Apprise knows, or the answer of the command."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cfaudit_export.app.alert_message import AlertMessage
from cfaudit_export.errors import SettingsError, SinkError
from cfaudit_export.http.webhook import check_webhook_url, send_webhook, webhook_key
from cfaudit_export.settings.alerts import AlertSettings

_LOG = logging.getLogger(__name__)


class AlertChannel(Protocol):
    """Where messages go. `name` tells it from others, and is the same in every run."""

    @property
    def name(self) -> str:
        """Return the name."""
        ...

    def send(self, message: AlertMessage) -> None:
        """Deliver a message; it was taken when this returns.

        Raises:
            SinkError: it was not, or that is unknown.
        """
        ...


@dataclass(frozen=True, slots=True)
class AnswerChannel:
    """Gives messages to the caller, where no other channel is set."""

    give: Callable[[AlertMessage], object]
    name: str = "answer"

    def send(self, message: AlertMessage) -> None:
        """Give it."""
        self.give(message)


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """An HTTP endpoint, by Standard Webhooks."""

    name: str
    url: str
    key: bytes | None
    clock: Callable[[], datetime]

    def send(self, message: AlertMessage) -> None:
        """Send it. Raises what `send_webhook` raises."""
        send_webhook(self.url, message.id, message.body(self.clock()), key=self.key, clock=self.clock)


@dataclass(frozen=True, slots=True)
class NotifyChannel:
    """A service that Apprise knows."""

    name: str
    service: Any

    def send(self, message: AlertMessage) -> None:
        """Send it, as plain text that Apprise escapes for the service.

        Raises:
            SinkError: the service did not take it; why is in the log of the library.
        """
        from apprise import NotifyFormat, NotifyType

        kinds = {"high": NotifyType.FAILURE, "medium": NotifyType.WARNING}
        try:
            is_taken = self.service.notify(
                body="\n".join(message.lines),
                title=message.title,
                notify_type=kinds.get(message.severity, NotifyType.INFO),
                body_format=NotifyFormat.TEXT,
                interpret_escapes=False,
            )
        except Exception as error:  # noqa: BLE001  # whatever a service of the library raises, the message is not taken
            raise SinkError(f"channel {self.name} failed: {type(error).__name__}") from None
        if not is_taken:
            raise SinkError(f"channel {self.name} did not take the message; see the log with -v")


def open_channels(
    settings: AlertSettings,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None],
    give: Callable[[AlertMessage], object],
) -> tuple[AlertChannel, ...]:
    """Return the channels of the settings; without any, one that gives messages to the caller.

    Raises:
        SettingsError: a URL or a secret cannot be used, or a library is missing.
    """
    found: list[AlertChannel] = []
    if settings.webhook_url:
        hide(settings.webhook_url)
        check_webhook_url(settings.webhook_url, "alert.webhook_url")
        secret = _value(environ, settings.webhook_secret_variable, "alert.webhook_secret_variable", hide)
        key = webhook_key(secret) if secret else None
        found.append(WebhookChannel(_name("webhook", settings.webhook_url), settings.webhook_url, key, clock))
    listed = _value(environ, settings.notify_variable, "alert.notify_variable", hide).split()
    for url in dict.fromkeys((*settings.notify_urls, *listed)):
        hide(url)
        found.append(_service(url))
    return tuple(found) or (AnswerChannel(give),)


def _value(environ: Mapping[str, str], variable: str | None, key: str, hide: Callable[[str], None]) -> str:
    if variable is None:
        return ""
    if not (value := environ.get(variable, "").strip()):
        raise SettingsError(f"{key} names the variable '{variable}', which is not set")
    hide(value)
    return value


def _service(url: str) -> AlertChannel:
    try:
        from apprise import Apprise
    except ImportError:
        raise SettingsError("Apprise is not installed: pip install 'cfaudit-export[alerts]'") from None
    service = Apprise()
    scheme = url.partition(":")[0]
    if not service.add(url):
        raise SettingsError(
            f"alert.notify_urls: Apprise knows no such service, or the URL lacks a part: '{scheme}://...'"
        )
    return NotifyChannel(_name(scheme, url), service)


def _name(kind: str, url: str) -> str:
    """Return a name without the secret in it; another URL is another channel."""
    return f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
