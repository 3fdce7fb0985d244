"""Tell a monitor that a run begins and how it ended, in the manner of healthchecks.io.

The URL is a secret: whoever has it can say that all is well. It is asked for with `/start` before a run; after one as
it is when all went well, else with the exit code as in `/75`, or with `/fail` where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from cfaudit_export.errors import CfauditError, ExitCode, SettingsError
from cfaudit_export.urls import is_safe

_LOG = logging.getLogger(__name__)
_SECONDS = 5.0


def pinged(url: str | None, work: Callable[[], int]) -> int:
    """Do the work and return its exit code, and tell both to the monitor, where there is one.

    A monitor that cannot be reached is logged, and changes nothing: it will notice by itself.

    Raises:
        SettingsError: nothing secret may be sent to such a URL.
    """
    if url is None:
        return work()
    if not is_safe(url):
        raise SettingsError("ping_url must start with https://, and hold no name or password")
    ping(url, "start")
    try:
        code = int(work())
    except CfauditError as error:
        ping(url, str(int(error.exit_code)))
        raise
    except BaseException:
        ping(url, "fail")
        raise
    ping(url, "" if code == ExitCode.OK else str(code))
    return code


def ping(url: str, suffix: str) -> None:
    """Ask for the URL, within seconds; no redirect is followed, as it would lead the secret elsewhere."""
    import httpx2

    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/{suffix}" if suffix else parts.path
    try:
        reply = httpx2.get(urlunsplit(parts._replace(path=path)), timeout=_SECONDS, follow_redirects=False)
    except httpx2.HTTPError as error:
        _LOG.warning("monitor cannot be pinged", extra={"ping": suffix or "success", "error": type(error).__name__})
        return
    if not reply.is_success:
        _LOG.warning("monitor refuses the ping", extra={"ping": suffix or "success", "status": reply.status_code})
