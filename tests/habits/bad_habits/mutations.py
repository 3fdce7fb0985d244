"""True answers, spoilt: a value in a document replaced by a hostile one, bytes changed, headers that mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from bad_habits.answers import Answer
from bad_habits.faults import Habit, When
from bad_habits.server import Moment

_DEEP = "[" * 5_000 + "]" * 5_000
# As JSON texts, as some have no Python value.
VALUES = (
    *("null", "true", "false", "0", "-1", "1e400", "-1e400", "1" + "0" * 30, "0.5", '""', '" "', "[]", "{}", "[null]"),
    *('"\\u001b[2J"', '"\\ud83d"', '"\\u202e"', '"\\u00b2"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999Z"'),
    *(
        '"' + "x" * 50_000 + '"',
        _DEEP,
        '{"a":' + _DEEP + "}",
        "99999999999999999999",
        '"javascript:alert(1)"',
        '"http://[::1"',
    ),
)
HEADERS = (
    *(("Retry-After", value) for value in ("\u00b2", "1e400", "-1", "9" * 50, "Fri, 31 Dec 9999 23:59:59 GMT", "soon")),
    *(
        ("Date", value)
        for value in ("Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 01 Jan 0000 00:00:00 GMT", "x, 99999", "\u00b2")
    ),
    *(
        ("Content-Type", value)
        for value in ("", "text/plain", "application/json; charset=klingon", "text/event-stream")
    ),
    *(("Content-Encoding", value) for value in ("gzip", "br", "deflate, gzip", "klingon")),
    *(("Location", value) for value in ("http://[::1", "//", "https://elsewhere.example/mcp")),
    ("Mcp-Session-Id", "\u00e9\u00df"),
    ("WWW-Authenticate", 'Bearer resource_metadata="http://[::1", error="' + "x" * 5_000),
)
STATUSES = (
    200,
    200,
    200,
    200,
    201,
    202,
    204,
    301,
    307,
    400,
    401,
    403,
    404,
    405,
    410,
    413,
    429,
    500,
    502,
    503,
    520,
    599,
)


def spoilt_document(document: Any, random: Random) -> str:
    """Return the JSON text of a document with one value replaced, removed or doubled; texts that hold JSON too."""
    places = list(_places(document, ()))
    path = random.choice(places)
    mark = f"mark-{random.random()}"
    changed = _changed(document, path, mark, random)
    return (
        json.dumps(changed)
        .replace(json.dumps(mark), random.choice(VALUES))
        .replace(json.dumps(json.dumps(mark))[1:-1], json.dumps(random.choice(VALUES))[1:-1])
    )


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _places(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value[:3]):
            yield from _places(below, (*path, index))
    elif isinstance(value, str) and value.startswith("{"):
        yield from _places(json.loads(value), (*path, None))


def _changed(value: Any, path: tuple[Any, ...], mark: str, random: Random) -> Any:
    if not path:
        return mark
    first, *rest = path
    if first is None:
        return json.dumps(_changed(json.loads(value), tuple(rest), mark, random))
    copy = value.copy()
    if not rest and random.random() < 0.2:
        del copy[first]
    else:
        copy[first] = _changed(copy[first], tuple(rest), mark, random)
    return copy


def spoilt_bytes(body: bytes, random: Random) -> bytes:
    """Return bytes with something cut off, put in or changed."""
    at = random.randrange(len(body) + 1)
    match random.randrange(3):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + random.randbytes(random.randrange(1, 20)) + body[at:]
        case _:
            return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]


def spoils(seed: int) -> Habit:
    """Spoil answers by a seed, each in another way."""
    random = Random(seed)

    def act(answer: Answer, _moment: Moment) -> Answer:
        how = random.randrange(4)
        if how == 0:
            return answer.with_header(*random.choice(HEADERS))
        if how == 1:
            return answer.having(status=random.choice(STATUSES))
        start = answer.body.find(b"{")
        if how == 2 or start < 0:
            return answer.having(body=spoilt_bytes(answer.body, random))
        head, text = answer.body[:start], answer.body[start:].strip()
        try:
            spoilt = spoilt_document(json.loads(text), random)
        except ValueError:
            return answer
        return answer.having(body=head + spoilt.encode("utf-8", "surrogatepass") + b"\n\n")

    return Habit("spoils", "http", act, When(during="all"), f"seed {seed}")
