"""How many calls may be spent on details of refused rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """Calls that may yet be spent on details of refused rows.

    Attributes:
        sharpening: calls for their very millisecond. Without, a gap reaches from one row read to the next.
        separating: calls for readable rows between refused ones of one millisecond, by filters.
        sifting: pages with many refused rows that may yet be tried by filters in vain.
    """

    sharpening: int = 200
    separating: int = 400
    sifting: int = 4
