"""Tell a monitor that a run begins and how it ended, in the manner of healthchecks.io.

The URL is a secret: with it, anyone can report success. It is asked for with `/start` before a run; after one as
it is when all went well, else with the exit code as in `/75`, or with `/fail` where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

from cfaudit_export.core.urls import is_safe
from cfaudit_export.errors import CfauditError, ExitCode, SettingsError, worst

_LOG = logging.getLogger(__name__)
# What a monitor that is sick may cost a run in all. Its first ping does not hold up anything.
_SECONDS = 3.0


@contextmanager
def pinging(url: str | None) -> Iterator[list[ExitCode]]:
    """Tell the monitor, where there is one, that work begins, and how it ended; yield the list for its exit codes.

    A monitor that cannot be reached is logged, and changes nothing: it will notice by itself. The run does not wait for
    the first ping, and for both together 3 s at its end.

    Raises:
        SettingsError: nothing secret may be sent to such a URL.
    """
    codes: list[ExitCode] = []
    if url is None:
        yield codes
        return
    if not is_safe(url):
        raise SettingsError("ping_url must start with https://, and hold no name or password")
    ends: SimpleQueue[str] = SimpleQueue()

    def tell() -> None:
        ping(url, "start", _SECONDS / 2)
        ping(url, ends.get(), _SECONDS / 2)

    # One thread for both, so that a monitor never hears of the end before the beginning.
    telling = Thread(target=tell, name="ping", daemon=True)
    telling.start()

    def end(suffix: str) -> None:
        ends.put(suffix)
        telling.join(_SECONDS)

    try:
        yield codes
    except CfauditError as error:
        end(str(int(error.exit_code)))
        raise
    except BaseException:
        end("fail")
        raise
    code = worst(codes)
    end("" if code is ExitCode.OK else str(int(code)))


def ping(url: str, suffix: str, seconds: float) -> None:
    """Ask for the URL, within seconds; no redirect is followed, as it would lead the secret elsewhere."""
    import httpx2

    from cfaudit_export.http.exchange import open_client

    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/{suffix}" if suffix else parts.path
    try:
        with open_client(seconds) as http:
            reply = http.get(urlunsplit(parts._replace(path=path)))
    except (httpx2.HTTPError, httpx2.InvalidURL, CfauditError) as error:
        _LOG.warning("monitor cannot be pinged", extra={"ping": suffix or "success", "error": type(error).__name__})
        return
    if not reply.is_success:
        _LOG.warning("monitor refuses the ping", extra={"ping": suffix or "success", "status": reply.status_code})
