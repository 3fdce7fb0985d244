"""Exports started from Python, as a scheduler does: what `run` and `plan --slices` do, without a terminal.

workshop = prepare(Given(flags={"sink": ["parquet"]}), environ=os.environ, clock=clock)
for report in export_all(workshop):
    print(report.exit_code)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cfaudit_export.accounts import accounts_of
from cfaudit_export.assemble import Workshop, assemble, connected
from cfaudit_export.encode import as_plain
from cfaudit_export.errors import SettingsError
from cfaudit_export.export import export
from cfaudit_export.failover import choose
from cfaudit_export.intervals import cut
from cfaudit_export.log import logging_through
from cfaudit_export.model import RunReport, Window, floor_ms
from cfaudit_export.settings import ALL_ACCOUNTS, Given, Settings, load_settings

__all__ = ["Given", "Workshop", "accounts", "as_plain", "export_all", "fit", "logging_through", "prepare", "slices"]


def prepare(
    given: Given,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
    needs_sink: bool = True,
) -> Workshop:
    """Read the settings as the command line does, and fit everything together. Nothing is connected yet.

    Args:
        given: what would be on the command line: a file, `-o` pairs, flags by the names of their options.
        environ: the variables.
        clock: the time, aware and UTC.
        hide: told of every secret that is found.
        needs_sink: whether events are to go somewhere.

    Raises:
        CfauditError: something does not fit, or there is no credential; `exit_code` says what the program would.
    """
    settings = load_settings(given, environ=environ, now=clock(), directory=Path())
    return fit(settings, environ=environ, clock=clock, hide=hide, needs_sink=needs_sink)


def fit(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None],
    needs_sink: bool = True,
) -> Workshop:
    """Return what runs with these settings are made of. Raises: as `prepare`."""
    from cfaudit_export.plugins import load_plugins  # the list of installed distributions is slow to import

    plugins = load_plugins(environ=environ)
    if needs_sink and not settings.sink:
        installed = ", ".join(plugins.sinks) or "none"
        raise SettingsError(f"no sink: say where events go, as in --sink parquet (installed: {installed})")
    return assemble(settings, plugins, environ=environ, clock=clock, hide=hide)


def export_all(workshop: Workshop) -> Iterator[RunReport]:
    """Run one account after the other, each once, and yield how it went; one that fails does not stop the others."""
    with accounts_of(workshop) as accounts:
        for account in accounts:
            yield export(workshop, account)


def slices(workshop: Workshop, count: int) -> list[dict[str, Any]]:
    """Cut the time to export into slices, `count` for each account, which runs can export beside each other.

    The time is from `since` (30 days ago without one) to `until`, and never beyond what is settled. The slices of an
    account tile it on whole milliseconds. Each is a dictionary of options: `account`, `since`, `until` and `slice`.

    Raises:
        CfauditError: the account has to be asked for, and that fails.
    """
    from cfaudit_export.pipeline.plan import FIRST_RUN

    settings = workshop.settings
    settled = floor_ms(workshop.clock() - settings.settle_lag)
    before = min(settled, floor_ms(settings.until)) if settings.until else settled
    since = floor_ms(settings.since) if settings.since else before - FIRST_RUN
    parts = cut(Window(since, before), count) if since < before else ()
    return [
        {"account": account, **as_plain({"since": part.since, "until": part.before}), "slice": True}
        for account in accounts(workshop)
        for part in parts
    ]


def accounts(workshop: Workshop) -> tuple[str, ...]:
    """Return the accounts that the settings name, else all that the credential can use.

    Raises:
        CfauditError: they have to be asked for, and that fails.
    """
    if not workshop.settings.account:
        workshop = replace(workshop, settings=replace(workshop.settings, account=ALL_ACCOUNTS))
    with accounts_of(workshop) as found:
        return tuple(account or _the_one(workshop) for account in found)


def _the_one(workshop: Workshop) -> str:
    with connected(choose(workshop, ""), "") as (_, connection):
        return connection.account_id
