"""Text that others wrote -> one line that is safe to show: no control sequences, no invisible or reordering marks."""

from __future__ import annotations

_SHOWN = 300


def escaped(text: str, limit: int | None = None) -> str:
    r"""Return `text` with everything unprintable written as `\x1b`, `\u202e`, ...; cut to `limit` characters.

    Unprintable is what `str.isprintable` says: control characters, line ends, bidi marks, zero-width characters,
    lone surrogates, unassigned code points.
    """
    line = text if text.isprintable() else "".join(map(_escape, text))
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def shown(said: object) -> str:
    """Return what another program said, on one line that is safe to show, cut to a few hundred characters."""
    return escaped(str(said).strip(), _SHOWN)


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
