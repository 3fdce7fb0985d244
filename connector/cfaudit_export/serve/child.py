"""The handle of the worker: started when it is first needed, one question at a time, replaced when it fails."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Timer
from typing import Any

import anyio
import anyio.to_thread

from cfaudit_export.serve.frames import LENGTH, receive, send
from cfaudit_export.serve.order import ServeOrder

MOST_WAITING = 64
"""How many callers may wait for their turn."""

# What a worker that stops in time by itself is given beyond that, and one that starts to be ready.
_GRACE_SECONDS, _START_SECONDS = 20.0, 60.0
_END_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """What came of a question.

    Attributes:
        text: the answer, or what is wrong.
        outcome: `ok`, `refused`, `failed` or `exhausted`, as the worker says.
        rows: how many rows it has.
    """

    text: str
    outcome: str
    rows: int = 0


# What takes too much memory because of what its caller wrote.
_OF_CALLERS = ("audit_sql",)
_GONE = WorkerReply("the question took more memory or time than it may; ask about a shorter time or for less", "failed")
_BUSY = WorkerReply("too many questions wait already; ask again later", "failed")


class ArchiveWorker:
    """Asks a process of its own. Tasks of one event loop may use it at once; it answers them in turn."""

    def __init__(self, order: ServeOrder) -> None:
        self._order = order
        self._turn = anyio.Lock()
        self._waiting = 0
        self._process: subprocess.Popen[bytes] | None = None

    async def ask(self, tool: str, arguments: Mapping[str, Any], seconds: float) -> WorkerReply:
        """Return the answer to a question that may take so long."""
        if self._waiting >= MOST_WAITING:
            return _BUSY
        self._waiting += 1
        reply = _BUSY
        try:
            async with self._turn:
                question = {"tool": tool, "arguments": arguments, "seconds": seconds}
                # Goes on when the caller is gone, or the answer to this would be taken for that to the next question.
                with anyio.CancelScope(shield=True):
                    reply = await anyio.to_thread.run_sync(self._answered, question, seconds)
        finally:
            self._waiting -= 1
        return reply

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(_END_SECONDS)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()

    def _answered(self, question: Mapping[str, Any], seconds: float) -> WorkerReply:
        """Ask; once more where what others asked before may be why there was not enough memory."""
        is_used = self._process is not None
        reply = self._exchange(question, seconds)
        if reply.outcome == "exhausted" and is_used and question["tool"] not in _OF_CALLERS:
            self.close()
            reply = self._exchange(question, seconds)
        if reply.outcome == "exhausted":
            self.close()
        return reply

    def _exchange(self, question: Mapping[str, Any], seconds: float) -> WorkerReply:
        is_new = self._process is None
        process = self._process = self._process or _started(self._order)
        assert process.stdin  # noqa: S101  # asked for two lines above
        assert process.stdout  # noqa: S101  # likewise
        limit = Timer(seconds + _GRACE_SECONDS + (_START_SECONDS if is_new else 0), process.kill)
        limit.start()
        try:
            send(process.stdin, question)
            while (message := receive(process.stdout)) is not None:
                if "log" not in message:
                    return WorkerReply(message["text"], message["outcome"], message["rows"])
                _LOG.log(message["log"], "archive", extra={"said": message["text"]})
        except (OSError, ValueError):
            pass  # it is gone, or says what it should not: both end it
        finally:
            limit.cancel()
        _LOG.warning("the worker is replaced", extra={"tool": question["tool"], "ended_with": process.poll()})
        self.close()
        return _GONE


def _started(order: ServeOrder) -> subprocess.Popen[bytes]:
    """Start a worker, and tell it what it serves."""
    # Without -P a folder of that name, where the server happens to be started, would be run instead of this program.
    command = [sys.executable, "-P", "-m", "cfaudit_export.serve.worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603  # this program's own
    assert process.stdin  # noqa: S101  # asked for in the line above
    told = pickle.dumps(order)
    process.stdin.write(LENGTH.pack(len(told)) + told)
    process.stdin.flush()
    return process
