"""Values <-> RFC 8785 JSON: one value has one text, so that a digest or a signature of it can be made again.

Reading is strict: what is not the one text of its value is refused, so that no two readers of a signed document take
different things from it.
"""

from __future__ import annotations

import json
import math
from typing import Any

_ROUNDED = 2**53  # JSON readers hold numbers from here on only roughly
_DEEPEST = 32


def canonical(value: Any) -> bytes:
    """Return texts, numbers, truth values, None, lists and dictionaries as RFC 8785 JSON.

    Raises:
        ValueError: a number cannot be written exactly, a text is half a surrogate pair, or something else is in it.
    """
    return json.dumps(_ordered(value, 0), ensure_ascii=False, separators=(",", ":")).encode()


def parse_canonical(document: bytes) -> Any:
    """Return the value of RFC 8785 JSON.

    Raises:
        ValueError: it is no JSON, not the canonical form of its value, or nested too deep.
    """
    value = parse_json(document)
    if canonical(value) != document:
        raise ValueError("it is not in canonical form (RFC 8785)")
    return value


def parse_json(document: bytes) -> Any:
    """Return the value of JSON in which no key comes twice in an object.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        return json.loads(document.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {json.dumps(next(key for key in keys if keys.count(key) > 1))} comes twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _ordered(value: Any, depth: int) -> Any:
    """Return a value with the keys of its objects in order, and its numbers as RFC 8785 writes them."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deep")
    match value:
        case None | bool() | str():
            return value
        case dict():
            return {key: _ordered(value[key], depth + 1) for key in sorted(value, key=_utf16)}
        case list() | tuple():
            return [_ordered(one, depth + 1) for one in value]
        case int():
            if not -_ROUNDED < value < _ROUNDED:
                raise ValueError(f"{value} is too large a number for JSON")
            return value
        case float():
            return _float(value)
    raise ValueError(f"{type(value).__name__} has no canonical form")


def _float(value: float) -> int | float:
    """Return a number that Python writes as RFC 8785 has it; those with exponents are not needed here."""
    if not math.isfinite(value) or "e" in repr(value):
        raise ValueError(f"{value} cannot be written exactly")
    return int(value) if value.is_integer() else value


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise ValueError("a key is no text")  # noqa: TRY004  # one kind of error for all that cannot be written
    return key.encode("utf-16-be")
