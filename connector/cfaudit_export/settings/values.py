"""What flag, variable or TOML gives for one option -> its value.

A reader takes texts from the command line and the environment, and TOML's own types from the file; `now` is what
relative times count from.

Raises:
    ValueError: it does not fit; the text says what would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from cfaudit_export.core.model import UNNAMED_ACCOUNT
from cfaudit_export.core.spoken import understand
from cfaudit_export.core.times import parse_duration, parse_moment

Reader = Callable[[Any, datetime], Any]
ALL_ACCOUNTS = ("all",)
MOST_PARALLEL = 64
_LONGEST_LABEL = 200

_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_TOML_TYPES = {dict: "table", list: "list", time: "time of day"}
_RECOVER_MODES = ("auto", "off", "all")
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_LAST_PORT = 65_535
OLDEST = datetime(1970, 1, 2, tzinfo=UTC)
"""Nothing of interest is older, and counting back so far stays within the calendar."""

_LONGEST = timedelta(days=10_000)


def text(given: Any, _now: datetime) -> str:
    """Read a text that is not empty."""
    if not isinstance(given, str) or not given.strip():
        raise _expected("a text", given)
    return given.strip()


def names(given: Any, now: datetime) -> tuple[str, ...]:
    """Read one or several names: a list, or a text that separates them by commas."""
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, list | tuple):
        raise _expected("a name or a list of names", given)
    return tuple(dict.fromkeys(text(one, now) for one in listed))


def accounts(given: Any, now: datetime) -> tuple[str, ...]:
    """Read account ids, or the word for all accounts."""
    found = tuple(dict.fromkeys(one.lower() for one in names(given, now)))
    if found == ALL_ACCOUNTS:
        return found
    for one in found:
        if one != UNNAMED_ACCOUNT and not _ACCOUNT.fullmatch(one):
            raise ValueError(
                f"expected account ids of 32 hexadecimal digits, as in the dashboard's URL, or 'all', not '{one}'"
            )
    return found


def moment(given: Any, now: datetime) -> datetime:
    """Read a time; of a period that is said in words, its start. Words are meant in the time zone of `now`."""
    return _moment(given, now, ends=False)


def end(given: Any, now: datetime) -> datetime:
    """Read the time at which something ends, exclusive; of a period that is said in words, its end."""
    return _moment(given, now, ends=True)


def _moment(given: Any, now: datetime, *, ends: bool) -> datetime:
    if not isinstance(given, str | date):
        raise _expected("a time", given)
    try:
        return max(parse_moment(given, now), OLDEST)
    except OverflowError:
        raise _expected("a time", given) from None
    except ValueError:
        if not isinstance(given, str):
            raise
    found = understand(given, now, now.tzinfo if isinstance(now.tzinfo, ZoneInfo) else ZoneInfo("UTC"))
    return max((ends and found.before) or found.since, OLDEST)


def length(given: Any, _now: datetime) -> timedelta:
    """Read a length of time."""
    if not isinstance(given, str):
        raise _expected("a duration such as '30s', '12h' or '7d'", given)
    found = parse_duration(given.strip())
    if found > _LONGEST:
        raise _expected("a duration of at most 10000d", given)
    return found


def label(given: Any, now: datetime) -> str:
    """Read a name that may be part of others."""
    found = text(given, now)
    if len(found) > _LONGEST_LABEL:
        raise _expected(f"a name of at most {_LONGEST_LABEL} characters", given)
    return found


def count(given: Any, _now: datetime) -> int:
    """Read a whole number from 1."""
    return _number(given, 1)


def accounts_at_once(given: Any, _now: datetime) -> int:
    """Read how many accounts are exported at once."""
    try:
        number = _number(given, 1)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_PARALLEL:
        raise _expected(f"a whole number from 1 to {MOST_PARALLEL}", given)
    return number


def days(given: Any, _now: datetime) -> int:
    """Read a number of days."""
    number = _number(given, 1)
    if number > _LONGEST.days:
        raise _expected(f"at most {_LONGEST.days} days", given)
    return number


def port(given: Any, _now: datetime) -> int:
    """Read a port."""
    number = _number(given, 1)
    if number > _LAST_PORT:
        raise _expected("a port up to 65535", given)
    return number


def switch(given: Any, _now: datetime) -> bool:
    """Read yes or no."""
    if isinstance(given, bool):
        return given
    if not isinstance(given, str) or given.lower() not in _SWITCH:
        raise _expected("true or false", given)
    return _SWITCH[given.lower()]


def level(given: Any, _now: datetime) -> int:
    """Read a whole number from 0."""
    return _number(given, 0)


def status(given: Any, _now: datetime) -> str:
    """Read an HTTP status."""
    return str(_number(given, 100))


def email(given: Any, now: datetime) -> str:
    """Read an email address."""
    found = text(given, now)
    if not _EMAIL.fullmatch(found):
        raise _expected("an email address", given)
    return found


def path(given: Any, now: datetime) -> Path:
    """Read a path; `~` is the home folder."""
    try:
        return Path(text(given, now)).expanduser()
    except RuntimeError:
        raise ValueError(f"unknown user in path '{given}'") from None


def url(given: Any, now: datetime) -> str:
    """Read the URL of a server."""
    found = text(given, now)
    try:
        parts = urlsplit(found)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        names_user = parts.username is not None
    except ValueError:
        usable = names_user = False
    if names_user:
        raise ValueError("a URL may not carry a name or password; use --header")
    if not usable:
        raise _expected("a URL such as 'https://host/mcp'", given)
    return found


def headers(given: Any, now: datetime) -> Mapping[str, str]:
    """Read headers: name to the environment variable that holds the value."""
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [(name, variable) for name, _, variable in (one.partition("=") for one in names(given, now))]
    for name, variable in pairs:
        if not name or not isinstance(variable, str) or not variable.isidentifier():
            # What was given is not shown: it may be the header itself.
            raise ValueError("expected NAME=ENVVAR, the header's name and the variable that holds its value")
    return dict(pairs)


def variable(given: Any, now: datetime) -> str:
    """Read the name of an environment variable."""
    found = text(given, now)
    if not found.isidentifier():
        # What was given is not shown: it may be the secret itself.
        raise ValueError("expected the name of the variable that holds it")
    return found


def recover(given: Any, now: datetime) -> Mapping[str, Any]:
    """Read how to rebuild what the source cuts off: the mode, or a table with `mode` and values by filter."""
    table = dict(given) if isinstance(given, Mapping) else {"mode": given}
    return {key: choice(*_RECOVER_MODES)(one, now) if key == "mode" else names(one, now) for key, one in table.items()}


def choice(*choices: str) -> Reader:
    """Return a reader of one of a few texts."""

    def read(given: Any, _now: datetime) -> str:
        if given not in choices:
            listed = ", ".join(one or "''" for one in choices)
            raise _expected(f"one of {listed}", given)
        return str(given)

    return read


def _number(given: Any, least: int) -> int:
    number = int(given) if isinstance(given, str) and given.isascii() and given.isdigit() else given
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise _expected(f"a whole number from {least}", given)
    return number


def _expected(wanted: str, given: Any) -> ValueError:
    """Return the error; a table or list is not spelled out, it may hold secrets."""
    plain = isinstance(given, str | int | float | date)
    return ValueError(f"expected {wanted}, not " + (f"'{given}'" if plain else f"a {_TOML_TYPES.get(type(given))}"))
