"""Log records -> lines on stderr: fixed text with key/values, as text or JSON, without control codes or secrets.

A caller logs a fixed text and gives what varies as `extra`:

    _LOG.info("window done", extra={"window": str(window), "events": 1000})
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO
from urllib.parse import quote, quote_plus

from cfaudit_export.core.escape import escaped

PACKAGE = "cfaudit_export"

_LOG = logging.getLogger(__name__)

# Everything a record has before `extra` is put on it.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
# Libraries that log a line for each request; where the root logger shows INFO, they would be most of a log.
_TALKATIVE = ("httpx2", "httpcore2", "mcp", "client", "botocore", "urllib3", "google")
# Shorter ones would hide half of every line.
_SECRET_LENGTH = 8
# A number of fewer digits may be a count of rows.
_NUMBER_LENGTH = 16
_STARS = "***"
# So many characters at the beginning of a secret are one where a text was cut, so many anywhere.
_CUT_LENGTH = 5
_LONG_LENGTH = 12
# What stands behind a text that was cut: a mark, or what closes a quotation, or nothing.
_MARKS = ("…", "...", "\\u2026")
_ENDS = ("", "'", '"', "\n", "\\")
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


class Writer(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Write a text."""
        ...


class Redaction:
    """Secrets that must not be shown: the last line of defence, behind code that does not show them.

    A text may have been cut before it comes here, and with it a secret in it. So a beginning of a secret is hidden too:
    one of some length anywhere, and a shorter one where a text was cut.
    """

    def __init__(self) -> None:
        self._hidden: set[str] = set()

    def hide(self, secret: str | None) -> None:
        """Remember a secret, in the forms in which it may appear in text, in JSON, in a URL, and in a header.

        A header `Basic` has it in Base64, behind a name (RFC 7617).
        """
        if secret and len(secret) >= (_NUMBER_LENGTH if secret.isdigit() else _SECRET_LENGTH):
            # A header `Bearer x` is a secret because of x.
            for one in {secret, *(word for word in secret.split() if len(word) >= _SECRET_LENGTH)}:
                self._hidden |= _forms(one)

    def __call__(self, text: str) -> str:
        """Return the text with every secret replaced by `***`."""
        for secret in sorted(self._hidden, key=len, reverse=True):
            if secret[:_CUT_LENGTH] in text:
                text = _without(text.replace(secret, _STARS), secret)
        return text


def _forms(secret: str) -> set[str]:
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return forms | {quote(secret, safe=""), quote(secret), quote_plus(secret)} | {*_in_base64(secret)}


def _in_base64(secret: str) -> Iterator[str]:
    """Yield what Base64 has of a secret that is a part of a text: three forms, by the number of bytes before it."""
    content = secret.encode(errors="replace")
    for before, unsure in enumerate((0, 2, 3)):
        sure = b64encode(bytes(before) + content)[unsure : (before + len(content)) * 8 // 6].decode()
        if len(sure) >= _SECRET_LENGTH:
            yield from (sure, sure.translate(str.maketrans("+/", "-_")))


def _without(text: str, secret: str) -> str:
    """Return a text without beginnings of a secret that are long, or that end where a text was cut."""
    if "://" in secret:
        return text  # other URLs begin like it; what is secret in it is remembered for itself
    start = text.find(secret[:_CUT_LENGTH])
    while start >= 0:
        length = next(
            (at for at, letter in enumerate(secret) if text[start + at : start + at + 1] != letter), len(secret)
        )
        while length and secret[length - 1] == "\\":  # half of an escape in JSON, whose other half stays
            length -= 1
        end = start + length
        is_cut = text.startswith(_MARKS, end) or (length >= _SECRET_LENGTH and text[end : end + 1] in _ENDS)
        if is_cut or length >= max(_LONG_LENGTH, len(secret) // 3):
            text = f"{text[:start]}{_STARS}{text[end:]}"
            end = start + len(_STARS)
        start = text.find(secret[:_CUT_LENGTH], max(end, start + 1))
    return text


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
