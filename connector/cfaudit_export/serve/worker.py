"""The process that answers: one question after the other from its stdin, the answers on what was its stdout.

A question and an answer are JSON, each behind its length in four bytes. The system bounds its memory; when its parent
is gone, its stdin ends, and so does it.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from cfaudit_export.app.log import logging_through
from cfaudit_export.errors import CfauditError, UsageError
from cfaudit_export.serve.answers.draft import AnswerDraft, compact, fitted
from cfaudit_export.serve.archive import Archive, answered, bounded, served_limits
from cfaudit_export.serve.frames import LENGTH, receive, send
from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.stand_in import STAND_IN
from cfaudit_export.serve.tools import DEFAULT_BYTES

# What Python, Arrow and DuckDB take beside what DuckDB may: code's data, stacks of threads, rows being read.
_BESIDE_BYTES = 1536 << 20
# How Python, Arrow and DuckDB say that there is none left, whatever the error is that it comes in.
_MEMORY = ("MemoryError", "Out of Memory", "failed to allocate", "bad_alloc", "more memory or disk than it may")
_LOG = logging.getLogger(__name__)
Tool = Callable[[Archive, Mapping[str, Any]], AnswerDraft]


def main() -> None:
    """Answer until stdin ends."""
    asked, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between answers
    size = LENGTH.unpack(asked.read(LENGTH.size))[0]
    order: ServeOrder = pickle.loads(asked.read(size))  # noqa: S301  # written by the parent that started this process
    _bound_memory(order)

    def log(level: int, text: str) -> None:
        send(answers, {"log": level, "text": text})

    with suppress(BrokenPipeError, KeyboardInterrupt), logging_through(log):
        _serve(order, asked, answers)


def _serve(order: ServeOrder, asked: IO[bytes], answers: IO[bytes]) -> None:
    def tell(what: str) -> None:
        _LOG.warning("checkpoints cannot be read", extra={"why": what})

    with Archive(order, lambda: datetime.now(UTC), time.monotonic, tell) as archive:
        while (question := receive(asked)) is not None:
            send(answers, answer(archive, question))


def answer(archive: Archive, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply to a question: `tool`, `arguments`, `seconds`.

    The reply has `text`; `rows`; `outcome`: `ok`, `refused` where the caller can correct it, `failed` where not,
    `exhausted` where there was not enough memory: a process that came so far does not give all of it back.
    """
    name, arguments = question["tool"], question["arguments"]
    try:
        with bounded(archive, question["seconds"]):
            if name == STAND_IN:
                return _stand_in(archive, arguments)
            draft = answered(archive, lambda: _tools()[name](archive, arguments))
        body = fitted(draft, arguments.get("max_bytes", DEFAULT_BYTES))
    except (CfauditError, MemoryError) as error:
        return _refused(error)
    except Exception as error:  # noqa: BLE001  # a fault of ours ends one question, not the server
        # Neither the message nor the traceback: they may hold what events say.
        at = error.__traceback__
        while at and at.tb_next:
            at = at.tb_next
        where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
        _LOG.error("a fault in this program", extra={"tool": name, "kind": type(error).__name__, "at": where})
        return {"text": "a fault in this program; its log has more", "rows": 0, "outcome": "failed"}
    return {"text": compact(body), "rows": draft.rows, "outcome": "ok"}


def _refused(error: Exception) -> dict[str, Any]:
    """Return the reply to a question that cannot be answered."""
    said = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or any(word in said for word in _MEMORY):
        return {"text": "the question takes more memory than it may; ask for less", "rows": 0, "outcome": "exhausted"}
    return {"text": said, "rows": 0, "outcome": "refused" if isinstance(error, UsageError) else "failed"}


def _stand_in(archive: Archive, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from cfaudit_export.serve.answers.stand_in import StandInError, answer_stand_in

    try:
        body, rows = answered(archive, lambda: answer_stand_in(archive, arguments))
    except StandInError as error:
        if any(word in str(error) for word in _MEMORY):
            raise MemoryError from error
        return {"text": compact(error.body), "rows": 0, "outcome": "refused"}
    return {"text": compact(body), "rows": rows, "outcome": "ok"}


def _tools() -> Mapping[str, Tool]:
    from cfaudit_export.serve.answers.events import answer_event, answer_events
    from cfaudit_export.serve.answers.holdings import answer_coverage
    from cfaudit_export.serve.answers.sql import answer_sql
    from cfaudit_export.serve.answers.suspicions import answer_findings
    from cfaudit_export.serve.answers.timelines import answer_report, answer_timeline

    return {
        "audit_coverage": answer_coverage,
        "audit_findings": answer_findings,
        "audit_timeline": answer_timeline,
        "audit_report": answer_report,
        "audit_events": answer_events,
        "audit_event": answer_event,
        "audit_sql": answer_sql,
    }


def _bound_memory(order: ServeOrder) -> None:
    """Let the system refuse memory beyond what a question may take: DuckDB does not count all that it takes."""
    threads = served_limits(order).threads
    if threads:  # the stacks of one thread a processor would be much of it on a large machine
        pa.set_cpu_count(threads)
    try:
        import resource
    except ImportError:  # not on this system
        return
    wanted = served_limits(order).memory_bytes + _BESIDE_BYTES
    with suppress(ValueError, OSError):  # it is limited to less already
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    main()
