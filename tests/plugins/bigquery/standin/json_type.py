"""The JSON type of GoogleSQL, as its reference tells it: what it takes, and what it makes of that.

Written from the reference and not from the sink, so that the two can disagree.
"""

from __future__ import annotations

import json
import re
from typing import Any

LEVELS = 500
_LARGEST = 18_446_744_073_709_551_615
_SMALLEST = -9_223_372_036_854_775_808


class NotStorableError(Exception):
    """The text is no JSON, or JSON that the type does not hold."""


def parse(line: str) -> Any:
    """Parse a line: first member of a name wins, numbers must survive, text must be Unicode."""
    try:
        # Most lines come back the same when read and written, so that nothing in them can have been lost.
        plain = json.loads(line, parse_int=_integer)
        if len(line) < 2 * LEVELS and _same(plain, line):
            return plain
        value = json.loads(
            line, object_pairs_hook=_first_wins, parse_int=_integer, parse_float=_number, parse_constant=_refuse
        )
        if "\\u" in line:
            text(value).encode()
    except RecursionError:
        raise NotStorableError("nesting is too deep") from None
    except UnicodeEncodeError:
        raise NotStorableError("invalid string: surrogate without its other half") from None
    except ValueError as error:
        raise NotStorableError(f"Parser terminated before end of string: {error}") from None
    if len(line) > 2 * LEVELS and _levels(value) > LEVELS + 1:  # the line is a level itself
        raise NotStorableError("nesting is too deep")
    return value


def _same(value: Any, line: str) -> bool:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) == line and "\\u" not in line


def text(value: Any) -> str:
    """Return a value as the type shows it: members sorted, no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


def _integer(digits: str) -> int | float:
    number = int(digits)
    if _SMALLEST <= number <= _LARGEST:
        return number
    return _number(digits)


def _number(digits: str) -> float:
    """Take what goes to a double and back without losing a digit."""
    shortest = repr(float(digits))
    if shortest in ("inf", "-inf") or _decimal(shortest) != _decimal(digits):
        raise NotStorableError("Input number cannot round-trip through string representation")
    return float(digits)


def _decimal(digits: str) -> tuple[str, str, int]:
    """Return sign, significant digits and exponent, the same for every spelling of a number."""
    sign, whole, _, fraction, _, exponent = re.fullmatch(  # type: ignore[union-attr]  # json only gives numbers
        r"(-?)(\d+)(\.(\d*))?([eE]([+-]?\d+))?", digits
    ).groups(default="")
    significant = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction)
    stripped = significant.rstrip("0")
    return (sign if stripped else "", stripped, power + len(significant) - len(stripped) if stripped else 0)


def _levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_levels, value), default=0)
    return 0


def _refuse(name: str) -> float:
    raise NotStorableError(f"{name} is no JSON")
