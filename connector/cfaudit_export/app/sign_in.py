"""The sign-in at a server, as it is kept now, and a warning when it comes to its end."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from cfaudit_export.auth import kept_grant
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.auth.grants import Grant

_LOG = logging.getLogger(__name__)
_WARNING_DAYS = 7


def current_sign_in(settings: Settings, server_url: str, now: datetime) -> Grant | None:
    """Return the sign-in at a server, None when there is none; log a warning when few of its days are left.

    Raises what `kept_grant` raises.
    """
    from cfaudit_export.auth.grants import grant_days_left, login_command

    grant = kept_grant(settings, server_url)
    left = None if grant is None else grant_days_left(grant, now)
    if left is not None and left < _WARNING_DAYS:
        facts = {"server": server_url, "days_left": round(left, 1), "do": login_command(settings.profile)}
        _LOG.warning("the sign-in ends soon", extra=facts)
    return grant
