"""Settings of the transform. Light: it is imported whenever plugins are listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

ACTIONS = ("keep", "drop", "encrypt", "pseudonym", "cut_ip")
"""What may be done with a value; the first that names it is done, and no other after it."""

_BODIES = ("resource_request", "resource_response", "resource_value", "event_raw")
_PEOPLE = (
    "actor_email",
    "actor_id",
    "actor_token_name",
    "event_raw:actor.email",
    "event_raw:actor.id",
    "event_raw:actor.token_name",
    "event_raw:actor.token.name",
    "event_raw:actor_email",
    "event_raw:actor_id",
    "event_raw:actor_token_name",
)

PRESETS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "pseudonyms": {
            "pseudonym": _PEOPLE,
            "cut_ip": ("actor_ip_address", "event_raw:actor.ip_address", "event_raw:actor_ip_address"),
            "scrub": ("email",),
        },
        "minimal": {"drop": (*_BODIES, "actor_ip_address", "raw_user_agent")},
        "no-secrets": {"scrub": ("secret",)},
    }
)
"""Rules that belong together. The six-field source has no `actor` in its events, and names it in a flat form."""


@dataclass(frozen=True, slots=True)
class RedactConfig:
    """What `[transforms.redact]` holds.

    A rule is a column, as in `actor_email`, or a path in a column of JSON, as in `event_raw:actor.email`: names between
    dots, `*` for any one of a level, `**` for any depth, a name with dots in double quotes.

    Attributes:
        preset: rules to begin with: `pseudonyms` (people can be counted, not named), `minimal` (no bodies, no addresses
            of machines, no user agents), `no-secrets` (what looks like a secret is removed).
        keep: of this JSON nothing but these paths stays: `resource_response: id, result.id`.
        drop: the whole value goes.
        encrypt: the value can be read again with the key.
        pseudonym: equal values get equal pseudonyms, which only the key can compute.
        cut_ip: an IPv4 address keeps its first 24 bits, an IPv6 address 48; what is no address goes.
        scrub: what is removed wherever it stands in a text: `email`, `secret`.
        email_domain: whether the pseudonym of an e-mail address keeps its domain.
        keys_file: TOML file with the keys of `pseudonym` and `encrypt`.
        allow_guessable: whether to hide values although `event_key` is computed from them without a secret.
    """

    preset: Literal["pseudonyms", "minimal", "no-secrets"] | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    encrypt: tuple[str, ...] = ()
    pseudonym: tuple[str, ...] = ()
    cut_ip: tuple[str, ...] = ()
    scrub: tuple[Literal["email", "secret"], ...] = ()
    email_domain: bool = False
    keys_file: Path | None = None
    allow_guessable: bool = False

    def __post_init__(self) -> None:
        if not any(map(self.rules, (*ACTIONS, "scrub"))):
            raise ValueError(
                "there is no rule; name a preset, or what to drop, pseudonym, cut_ip, encrypt, keep, scrub"
            )
        if self.keys_file is None and (self.rules("pseudonym") or self.rules("encrypt")):
            raise ValueError("pseudonym and encrypt need keys; name their file in keys_file")

    def rules(self, action: str) -> tuple[str, ...]:
        """Return the rules of an action, those of the preset among them, each once."""
        preset = PRESETS[self.preset] if self.preset else {}
        return tuple(dict.fromkeys((*preset.get(action, ()), *getattr(self, action))))
