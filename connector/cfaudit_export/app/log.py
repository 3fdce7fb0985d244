"""Log records -> lines on stderr: fixed text with key/values, as text or JSON, without control codes or secrets.

A caller logs a fixed text and gives what varies as `extra`:

    _LOG.info("window done", extra={"window": str(window), "events": 1000})
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, TextIO

from cfaudit_export.core.escape import escaped
from cfaudit_export.core.redaction import Redaction

PACKAGE = "cfaudit_export"

_LOG = logging.getLogger(__name__)

# Everything a record has before `extra` is put on it.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
# Libraries that log a line for each request; where the root logger shows INFO, they would be most of a log.
_TALKATIVE = ("httpx2", "httpcore2", "mcp", "client", "botocore", "urllib3", "google")
# Libraries whose records are what goes over the wire: replies of a service that gives keys, headers, whole URLs.
WIRE = (
    "authlib",
    "boto3",
    "botocore",
    "google",
    "hpack",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "mcp",
    "oauthlib",
    "opentelemetry",
    "requests",
    "requests_oauthlib",
    "s3transfer",
    "urllib3",
)


# What the last line of a command says again, in words: a person is told once.
_SAID_AGAIN = frozenset({"gaps remain"})


class Writer(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Write a text."""
        ...


class TextFormatter(logging.Formatter):
    """`2026-11-24T02:55:00.120Z INFO window done window=... events=1000`, one record a line."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = f"{_time(record)} {record.levelname} {_worded(record)}"
        if trace := _trace(self, record):
            line += "".join(f"\n    {escaped(one)}" for one in trace.splitlines())
        return self._redaction(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, then what varies, then `traceback` if any."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. ASCII only, so that nothing in it can act on a terminal."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in _extra(record).items():
            line[f"{key}_" if key in line else key] = value
        if trace := _trace(self, record):
            line["traceback"] = trace
        return self._redaction(json.dumps(line, default=str))


@contextmanager
def logging_to(stream: Writer, *, form: str, verbosity: int, redaction: Redaction) -> Iterator[None]:
    """Send all log records to `stream` while the context lasts, and what libraries warn of, as records like others.

    Args:
        stream: where lines go.
        form: `text` or `json`.
        verbosity: -1 shows warnings only, 0 also what this program did, 1 its details, 2 also those of libraries, but
            nothing that goes over the wire (`WIRE`).
        redaction: what must not be shown; secrets may be added to it while the context lasts.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(redaction) if form == "json" else TextFormatter(redaction))
    handler.addFilter(_is_no_wire)
    if verbosity < 0:
        handler.addFilter(_is_not_said_again)
    root, own = logging.getLogger(), logging.getLogger(PACKAGE)
    levels = (root.level, own.level)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    own.setLevel(logging.WARNING if verbosity < 0 else logging.DEBUG if verbosity else logging.INFO)
    root.addHandler(handler)
    shown = warnings.showwarning
    warnings.showwarning = _log_warning
    try:
        yield
    finally:
        warnings.showwarning = shown
        root.removeHandler(handler)
        for logger, level in zip((root, own), levels, strict=True):
            logger.setLevel(level)


@contextmanager
def logging_through(log: Callable[[int, str], object]) -> Iterator[None]:
    """Hand what this program logs to another program's log, and nowhere else, while the context lasts.

    What libraries log of each request is left out meanwhile; their warnings are not.

    Args:
        log: called with the level and the text, in which what varies is included. It has to hide secrets itself.
    """
    handler, own = _Through(log), logging.getLogger(PACKAGE)
    libraries = [logging.getLogger(name) for name in _TALKATIVE]
    before = [(one, one.level) for one in (own, *libraries)]
    propagated = own.propagate
    own.setLevel(logging.INFO)
    for one in libraries:
        one.setLevel(logging.WARNING)
    own.propagate = False
    own.addHandler(handler)
    try:
        yield
    finally:
        own.removeHandler(handler)
        own.propagate = propagated
        for one, level in before:
            one.setLevel(level)


class AccountInLogs(logging.Filter):
    """Adds to log records which account they are about, where several are exported side by side.

    Attributes:
        account: the account; of the context and not of the thread, so that what a session does for an account in a
            thread of its own has it, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.account: ContextVar[str] = ContextVar("account", default="")

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        account = self.account.get()
        if account and not hasattr(record, "account") and record.name.startswith(PACKAGE):
            record.account = account
        return True

    @contextmanager
    def told(self) -> Iterator[None]:
        """Add it while the context lasts."""
        handlers = [*logging.getLogger().handlers, *logging.getLogger(PACKAGE).handlers]
        for handler in handlers:
            handler.addFilter(self)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self)


def _is_not_said_again(record: logging.LogRecord) -> bool:
    return record.msg not in _SAID_AGAIN


def _is_no_wire(record: logging.LogRecord) -> bool:
    """Say whether a record may be shown: one of a library that talks to servers only if it is a warning."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in WIRE


class _Through(logging.Handler):
    def __init__(self, log: Callable[[int, str], object]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log(record.levelno, _worded(record))


def _log_warning(  # noqa: PLR0917  # the signature is Python's
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  # as above
    line: str | None = None,  # noqa: ARG001  # as above
) -> None:
    """Log a warning that Python would write to stderr as it is, in lines that are no records."""
    extra = {"words": str(message).strip(), "kind": category.__name__, "at": f"{Path(filename).name}:{lineno}"}
    _LOG.warning("library warning", extra=extra)


def _worded(record: logging.LogRecord) -> str:
    """Return the text and what varies, as text for people."""
    pairs = [f"{key}={_bare(value)}" for key, value in _extra(record).items()]
    return " ".join([escaped(record.getMessage()), *pairs])


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _bare(value: Any) -> str:
    """Return a value as one word: quoted where it is not one."""
    text = escaped(str(value))
    return text if text and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)
