"""What can be set about the budget of calls: whether workers share one, and how."""

from __future__ import annotations

from dataclasses import dataclass

from cfaudit_export.settings import values
from cfaudit_export.settings.option import HOW, Option

BUDGET_OPTIONS: tuple[Option, ...] = (
    Option(
        "budget.store",
        values.choice("none", "checkpoint"),
        "where workers share one budget of calls: none, each has its own, or beside the checkpoints",
        HOW,
        "none|checkpoint",
        default="none",
    ),
    Option(
        "budget.name",
        values.label,
        "name of the shared budget, for several tokens of one user",
        HOW,
        "NAME",
        default="a digest of the token",
    ),
    Option(
        "budget.fallback_workers",
        values.count,
        "the budget is divided by this while its store is away",
        HOW,
        "N",
        default="4",
    ),
)


@dataclass(frozen=True, slots=True)
class Budget:
    """What is set about the budget.

    Attributes:
        store: `checkpoint` where workers share it by the checkpoint store, else `none`.
        name: of the shared budget; None for one of the credential.
        fallback_workers: by so many it is divided while its store is away.
    """

    store: str = "none"
    name: str | None = None
    fallback_workers: int = 4
