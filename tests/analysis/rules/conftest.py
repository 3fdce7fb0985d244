"""A small account, a story in it, and what the rules find."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.rules.model import Findings
from cfaudit_export.core.model import Window
from cfaudit_export.settings import RuleSettings
from planted.world import END, Row, Story, judged, ordinary_rows

Judge = Callable[..., Findings]


@dataclass(frozen=True, slots=True)
class Account:
    """Six weeks of an account on which nothing special happened: its files, and its id."""

    folder: Path
    id: str


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory: pytest.TempPathFactory, store_rows: Callable[..., Path]) -> Account:
    """Six weeks of a small account."""
    rows = ordinary_rows(42, 300)
    return Account(store_rows(tmp_path_factory.mktemp("ordinary"), rows, "ordinary"), rows[0]["account_id"])


@pytest.fixture
def story(ordinary: Account) -> Story:
    """A story on the last day but one, Sunday 29 November, from noon UTC on."""
    return Story(ordinary.id, END - timedelta(hours=12), [])


@pytest.fixture
def judge(tmp_path: Path, ordinary: Account, store_rows: Callable[..., Path]) -> Judge:
    """Judge the last week, or `period`, of the account, or of nothing, and of some rows more."""
    numbers = count()

    def ask(
        rows: Iterable[Row] = (), settings: RuleSettings | None = None, *, alone: bool = False, **options: Any
    ) -> Findings:
        folder = tmp_path / f"data-{next(numbers)}"
        if not alone:
            shutil.copytree(ordinary.folder, folder, copy_function=os.link)
        store_rows(folder, rows, "more")
        period = options.pop("period", Window(END - timedelta(days=7), END))
        return judged(folder, period, settings, **options)

    return ask
