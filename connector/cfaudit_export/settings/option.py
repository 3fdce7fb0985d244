"""One thing that can be set, and the groups that such things are shown in."""

from __future__ import annotations

from dataclasses import dataclass

from cfaudit_export.settings import values

PREFIX = "CFAUDIT_"

WHAT = "What to export"
FILTERS = "Only events with"
WHERE = "Where to"
SIGN_IN = "Signing in"
HOW = "How"
LOGS = "Logs"
WATCH = "Watching"
PROOF = "Proof"
PRIVACY = "Privacy"
ASK = "Asking the exported data"
RULES = "Rules and findings"
ALERTS = "Alerts"

DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be set.

    Attributes:
        key: path in the TOML file: `settle_lag`, `filters.actor_email`.
        read: makes the value of what was given.
        help: a phrase for `--help` and the documentation.
        panel: the group it is shown in.
        metavar: what the help shows for the value; empty for a flag without one.
        flags: as on the command line; empty where there is none.
        default: as the documentation shows it.
        repeats: the flag may be given several times; one without a value is counted.
        short_variable: a second environment variable for it.
        source_key: where the key is short for one of the chosen source, that one: `sources.NAME.<source_key>`.
    """

    key: str
    read: values.Reader
    help: str
    panel: str
    metavar: str
    flags: tuple[str, ...] = ()
    default: str = ""
    repeats: bool = False
    source_key: str | None = None
    short_variable: str = ""

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return PREFIX + self.key.upper().replace(".", "__")

    @property
    def name(self) -> str:
        """Return the key as an identifier."""
        return self.key.replace(".", "_")
