"""The settings -> the budget that workers share, where they are to share one."""

from __future__ import annotations

import hashlib
from typing import Any

from cfaudit_export.app.compose import Assembly
from cfaudit_export.app.resolve import open_store
from cfaudit_export.auth import budget_owner
from cfaudit_export.errors import SettingsError
from cfaudit_export.plugin.shared_documents import SharedBudget, SharedDocuments


def sharing_budget(assembly: Assembly) -> Assembly:
    """Return the assembly; its sources draw their calls from the shared budget, where the settings want that.

    Raises:
        SettingsError: the checkpoint store cannot hold it.
    """
    settings = assembly.settings
    if settings.budget.store == "none":
        return assembly
    store: Any = open_store(settings, assembly.plugins)
    if not isinstance(store, SharedDocuments):
        raise SettingsError(
            f"budget.store = 'checkpoint' needs a checkpoint store that holds shared documents, which "
            f"'{settings.checkpoint.get('store')}' does not; the stores 'file' and 's3' do"
        )
    owner = f"named {settings.budget.name}" if settings.budget.name else budget_owner(settings, assembly.credential)
    name = f"budget-{hashlib.sha256(owner.encode()).hexdigest()[:32]}"
    shared = SharedBudget(store, name, settings.budget.fallback_workers)
    for one in (assembly, assembly.filler, assembly.otherwise):
        if one is not None:
            one.shared.budget = shared
    return assembly
