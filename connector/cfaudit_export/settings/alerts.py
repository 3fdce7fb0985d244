"""What can be set about alerts: where findings are told, which, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from cfaudit_export.settings import values
from cfaudit_export.settings.option import ALERTS, Option
from cfaudit_export.settings.rules import SEVERITIES

ALERT_OPTIONS: tuple[Option, ...] = (
    Option(
        "alert.webhook_url", values.text, "URL that findings are sent to, as Standard Webhooks; secret", ALERTS, "URL"
    ),
    Option(
        "alert.webhook_secret_variable",
        values.variable,
        "variable with the secret that signs messages, 'whsec_...'",
        ALERTS,
        "ENVVAR",
        default="messages are not signed",
    ),
    Option(
        "alert.notify_urls",
        values.names,
        "URLs of Apprise, for Slack, e-mail, PagerDuty and others; secret; needs the extra 'alerts'",
        ALERTS,
        "URL",
    ),
    Option(
        "alert.notify_variable", values.variable, "variable with URLs of Apprise, separated by blanks", ALERTS, "ENVVAR"
    ),
    Option(
        "alert.severity",
        values.choice(*SEVERITIES),
        "least severity that is told",
        ALERTS,
        "|".join(SEVERITIES),
        default="medium",
    ),
    Option(
        "alert.max_age",
        values.length,
        "events older than this when they arrive are told in one line",
        ALERTS,
        "DURATION",
        default="2d",
    ),
    Option(
        "alert.quiet",
        values.length,
        "after a message, time without another one of the same rule and key",
        ALERTS,
        "DURATION",
        default="12h",
    ),
)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """What is set about alerts.

    Attributes:
        webhook_url: where messages are sent; None for nowhere.
        webhook_secret_variable: the variable with what signs them; None to sign none.
        notify_urls: URLs of Apprise.
        notify_variable: the variable with more of them.
        severity: the least that is told.
        max_age: older events are told in one line.
        quiet: after a message, time without another one of the same rule and key.
    """

    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret_variable: str | None = None
    notify_urls: tuple[str, ...] = field(default=(), repr=False)
    notify_variable: str | None = None
    severity: str = "medium"
    max_age: timedelta = timedelta(days=2)
    quiet: timedelta = timedelta(hours=12)

    def secrets(self) -> Iterator[str]:
        """Yield the URLs: who has them can send messages."""
        yield from (self.webhook_url, *self.notify_urls) if self.webhook_url else self.notify_urls
