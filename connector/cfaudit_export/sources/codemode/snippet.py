"""Parameters -> the code that is sent: one fixed, reviewed snippet, its parameters put in as JSON.

The server runs whatever it is sent, with all the rights of the token. So nothing but `snippet.js` is ever sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

_PLACE = "PARAMETERS"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a call asks for.

    Attributes:
        account: whose log, 32 hex digits; None for the one that the server chooses.
        query: parameters of the endpoint, name and value.
        cursor: where the first page starts; None for the beginning.
        pages: how many pages at most; with 0 nothing is read, and only the account is told.
        most: bytes of all pages together, at most; a page beyond is left out.
        listing: read the list of accounts, and no log.
    """

    account: str | None
    query: tuple[tuple[str, str], ...] = ()
    cursor: str | None = None
    pages: int = 0
    most: int = 0
    listing: bool = False


def write_code(parameters: Parameters) -> str:
    """Return the code of a call, in ASCII but for what `snippet.js` itself says."""
    before, after = _halves()
    # JSON in ASCII is JavaScript of the same meaning, whatever text is in it.
    return before + json.dumps(asdict(parameters), separators=(",", ":")) + after


def read_code(code: str) -> Parameters | None:
    """Return the parameters of a call's code; None when it is not our snippet."""
    before, after = _halves()
    if not (code.startswith(before) and code.endswith(after)):
        return None
    try:
        found = json.loads(code[len(before) : len(code) - len(after)])
        return Parameters(**found | {"query": tuple(tuple(pair) for pair in found["query"])})
    except (ValueError, TypeError, KeyError):
        return None


@cache
def _halves() -> tuple[str, str]:
    before, place, after = files(__package__).joinpath("snippet.js").read_text("utf-8").partition(_PLACE)
    if not place or _PLACE in after:
        raise RuntimeError("snippet.js must have one place for its parameters")
    return before, after
