"""Settings -> an alert run: the data, the rules, the channels and the memory that they name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cfaudit_export.app import archive
from cfaudit_export.app.resolve import open_store
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.app.alert import AlertReport
    from cfaudit_export.app.alert_message import AlertMessage

_LOG = logging.getLogger(__name__)


def alert(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
    data: str | None = None,
    accounts: Sequence[str] = (),
    fail_on: str | None = None,
    zone: ZoneInfo | None = None,
    give: Callable[[AlertMessage], object] = lambda _message: None,
) -> AlertReport:
    """Judge what arrived in exported data since the last time, and tell each finding once to each channel.

    Args:
        settings: name the data, the channels, the rules, and where it is remembered what was told.
        environ: the variables.
        clock: the time, aware and UTC.
        hide: told of every secret that is found.
        data: the exported files; by default where the sink of the settings writes them.
        accounts: only these; all if there are none.
        fail_on: the least severity of something new that ends with 1; None for none.
        zone: for times in messages; UTC by default.
        give: is given the messages where the settings name no channel.

    Raises:
        CfauditError: the data cannot be read, or the settings do not fit.
    """
    from cfaudit_export.analysis.files.open import open_location
    from cfaudit_export.analysis.rules.load import load_rules
    from cfaudit_export.app.alert import AlertRun, run_alert
    from cfaudit_export.app.alert_channels import open_channels
    from cfaudit_export.plugin.registry import load_plugins
    from cfaudit_export.stores.alert_memory import AlertMemory

    rules = load_rules(settings.rules)
    channels = open_channels(settings.alert, environ, clock, hide, give)
    place = open_location(archive.location(settings, data), settings.sinks.get("s3"))
    store = open_store(settings, load_plugins(environ=environ))
    warn = partial(_LOG.warning, "%s")
    return run_alert(
        AlertRun(
            place=place,
            accounts=accounts,
            settings=settings.alert,
            rules=rules,
            channels=channels,
            memory=AlertMemory(store, settings.state_dir / "alerts", place.shown),
            known=archive.remembered(settings, environ, place.shown, warn),
            limits=archive.limits(settings),
            zone=zone or ZoneInfo("UTC"),
            clock=clock,
            fail_on=fail_on,
        )
    )
