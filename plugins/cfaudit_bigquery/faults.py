"""What BigQuery says is wrong -> an error that says what to do, and whether trying again soon can help."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfaudit_export import LoadUnknownError, SinkError, SinkRefusedError

# As in BigQuery's table of error messages. What is in neither list is sorted by the HTTP status it comes with.
_PASSING = frozenset(
    {
        "backendError",
        "badGateway",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
        "tableUnavailable",
    }
)
_LATER = frozenset({"quotaExceeded", "resourceInUse", "resourcesExceeded", "stopped", "timeout"})
# Two changes of one table at once: BigQuery calls the loser's query invalid, though only its moment was.
_RACE = "concurrent update"

# Said of a row, but every row would be refused like it.
_TABLES_FAULT = ("No such field", "Missing required field")
_ROW = re.compile(r"row starting at position (\d+)")
_VALUE = re.compile(r"""(?<!\w)['"].*['"]|(?<=Value: ).*""")
_LONGEST = 400


class PassingError(Exception):
    """Something went wrong that may be gone in a moment.

    Attributes:
        error: what to raise when it is not.
    """

    def __init__(self, error: SinkError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class DestinationNames:
    """What error messages call the destination."""

    project: str
    dataset: str


def fault(reason: str, status: int, words: str, place: DestinationNames, *, maybe_done: bool = False) -> Exception:
    """Return the exception to raise for an answer of BigQuery.

    Args:
        reason: BigQuery's word for the fault; empty when it gave none.
        status: the HTTP status, 0 for an error of a job.
        words: BigQuery's sentence.
        place: where it happened.
        maybe_done: True when what was asked may have been done in spite of the answer.
    """
    words = one_line(words)
    # What gives no reason was said by something on the way, such as a proxy: BigQuery gives one with every error, and
    # a success that Google's library could make nothing of is none.
    unsaid = not reason and (status >= 500 or status in {404, 410, 412, 429} or 200 <= status < 400)
    if unsaid or reason in _PASSING or _RACE in words:
        kind = LoadUnknownError if maybe_done else SinkError
        return PassingError(kind(f"BigQuery cannot take it now: {words}; nothing is lost meanwhile"))
    if reason == "quotaExceeded":
        return SinkError(f"a quota of BigQuery is used up: {words}; the batch comes again with the next run")
    if reason in _LATER:
        return SinkError(f"BigQuery gave up ({reason}): {words}; the batch comes again with the next run")
    return SinkRefusedError(_advice(reason, status, words, place))


def row_faults(errors: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return which rows a job could not take: where its line begins in the body, and BigQuery's reason without values.

    A value in such a message is a part of an event, which has no place in logs.
    """
    found: dict[int, str] = {}
    for error in errors:
        words = str(error.get("message", ""))
        if (position := _ROW.search(words)) and not any(fault in words for fault in _TABLES_FAULT):
            found[int(position[1])] = without_values(words)
    return found


def invalid_words(result: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what BigQuery calls invalid, without values: the row that it names first, else the summary."""
    messages = [str(error.get("message", "")) for error in (*errors, result)]
    return without_values(next((words for words in messages if _ROW.search(words)), messages[-1]))


def without_values(words: str) -> str:
    """Return a sentence on one line, everything quoted in it or said to be a value left out."""
    return _VALUE.sub("...", one_line(words))


def one_line(words: str) -> str:
    """Return a server's message on one line of bounded length, without what does not print."""
    line = "".join(letter if letter.isprintable() else " " for letter in words)
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."


def _advice(reason: str, status: int, words: str, place: DestinationNames) -> str:
    if status == 401:
        return f"BigQuery does not accept the credentials: {words}; renew them, or set credentials_file"
    if reason == "accessDenied" or status == 403:
        return (
            f"access denied: {words}; grant the role BigQuery Data Editor on the dataset '{place.dataset}' and"
            f" BigQuery Job User on the project '{place.project}'"
        )
    if reason == "notFound" or status == 404:
        return f"not found: {words}; create the dataset '{place.dataset}', or correct table, project or location"
    return f"BigQuery refuses: {words}"
