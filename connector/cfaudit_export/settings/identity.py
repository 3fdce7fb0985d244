"""What can be set about the identity of events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfaudit_export.settings import values
from cfaudit_export.settings.option import PRIVACY, Option

IDENTITY_OPTIONS: tuple[Option, ...] = (
    Option(
        "identity.key_file",
        values.path,
        "file of the secret that makes event_key, so that it cannot be guessed back; for new streams only",
        PRIVACY,
        "FILE",
        default="event_key is a plain hash",
    ),
)


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """What is set about the identity of events.

    Attributes:
        key_file: the secret that makes keys of events; None for a hash that needs no secret.
    """

    key_file: Path | None = None
