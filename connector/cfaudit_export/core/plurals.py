"""Numbers with their nouns, for people: `1 gap`, `2,000 gaps`."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, in the singular for one.

    Args:
        number: how many.
        noun: the noun in the singular.
        plural: its plural, where that is not the noun and an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def are(number: int) -> str:
    """Return the verb for so many."""
    return "is" if number == 1 else "are"
