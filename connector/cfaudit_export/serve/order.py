"""What a worker is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass

from cfaudit_export.settings import Settings


@dataclass(frozen=True, slots=True)
class ServeOrder:
    """Which data is served, and to whom.

    Attributes:
        settings: where checkpoints are, and what a question may use.
        data: where the data is: a folder, or `s3://bucket/prefix`.
        account: the only account that exists for callers; None for all.
        runs_sql: whether SQL is answered.
        stands_in: whether the tool of Cloudflare's own server is answered.
        zone: the time zone of days, hours and answers where a caller names none.
    """

    settings: Settings
    data: str
    account: str | None = None
    runs_sql: bool = True
    stands_in: bool = False
    zone: str = "UTC"
