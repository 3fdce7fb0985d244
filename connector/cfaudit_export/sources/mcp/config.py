"""The bounds of the numbers in the settings of sources."""

from __future__ import annotations

# Of each number the least and the most; what is not a number is neither.
_BOUNDS = {
    "concurrency": (1, 256),
    "page_size": (1, 1_000_000),
    "pages_per_call": (1, 1_000),
    "piece_rows": (1, 100_000_000),
    "budget_calls": (0, 1_000_000_000),
    "timeout_seconds": (0.001, 86_400.0),
    "max_reply_bytes": (1_000, 4_000_000_000),
    "retry_seconds": (0.0, 31_536_000.0),
}


def check_numbers(config: object) -> None:
    """Raise a ValueError where a number is beyond its bounds."""
    for name, (least, most) in _BOUNDS.items():
        number = getattr(config, name, least)
        if not least <= number <= most:
            raise ValueError(f"{name} must be a number from {least:,} to {most:,}, not {number}")
