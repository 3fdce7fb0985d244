"""What lies below an exception: the causes that libraries wrap, in whatever nesting of groups."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Iterator

from cfaudit_export.core.escape import shown

_MOST = 50
_SHORTAGES = {
    errno.ENOMEM: "the machine is out of memory; give this program more, and run again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n), and run again",
    errno.ENFILE: "too many files are open on this machine; end other programs, and run again",
    errno.ENOSPC: "the disk is full; make room, and run again",
    errno.EDQUOT: "the disk quota is used up; make room, and run again",
    errno.EIO: "the disk fails; look at it, and run again",
}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it was raised for, depth first; a circle of causes ends."""
    waiting = [error]
    for _ in range(_MOST):
        seen = waiting.pop() if waiting else None
        if seen is None:
            return
        yield seen
        waiting += [cause for cause in (seen.__context__, seen.__cause__) if cause is not None]
        if isinstance(seen, BaseExceptionGroup):
            waiting += reversed(seen.exceptions)


def is_untrusted(error: BaseException) -> bool:
    """Say whether a connection failed because the peer's certificate is not trusted: wrong name, expired, unknown."""
    return any(isinstance(one, ssl.SSLCertVerificationError) for one in chain(error))


def shortage_of(error: BaseException) -> str:
    """Return what the machine lacks where that is why something failed, and what to do; empty where it is not.

    Any line of any library may fail so: it is no fault of the code that it fails in.
    """
    for one in chain(error):
        number = errno.ENOMEM if isinstance(one, MemoryError) else one.errno if isinstance(one, OSError) else None
        if number in _SHORTAGES:
            return _SHORTAGES[number]
    return ""


def reason_of(error: BaseException) -> str:
    """Return what the system says of a connection that failed, else what the exception says; one line."""
    told = [one for one in chain(error) if isinstance(one, OSError) and one.errno]
    if told and (told[0].errno or 0) > 0 and not isinstance(told[0], ssl.SSLError):
        return os.strerror(told[0].errno or 0)
    return shown(told[0] if told else error) or type(error).__name__
