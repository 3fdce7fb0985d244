"""A name that does not exist -> the one that was meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# How much alike two names are when one is a slip of the other: one letter of three is.
_ALIKE = 0.7


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint that names the known name most like this one; empty when none is like it within reason.

    Dashes in front are left out of the comparison: they would make all options alike.
    """
    bare = {one.lstrip("-"): one for one in known}
    match = get_close_matches(name.lstrip("-"), list(bare), n=1, cutoff=_ALIKE)
    return f"; did you mean '{bare[match[0]]}'?" if match else ""
