"""The log of what clients asked a sandbox, for tests and for `/sandbox/stats`."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_KEPT = 20_000


@dataclass(slots=True)
class SeenRequest:
    """One HTTP request, as far as it got.

    Attributes:
        at: when it came in, by the world's clock.
        verb: the HTTP method; `path`: the URL's path.
        method: the JSON-RPC method (of a batch the last one).
        tool: the name of the tool called, with `arguments`.
        era: `modern`, `legacy`, or empty where the request was turned away before that was known.
        cost: upstream calls it caused.
        status: HTTP status of the answer; 0 where the client left before.
        is_error: whether the answer was a tool error or a JSON-RPC error.
    """

    at: float
    verb: str
    path: str
    method: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    era: str = ""
    cost: int = 0
    status: int = 0
    is_error: bool = False


class RequestLog:
    """The requests seen so far, the last twenty thousand in full. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._entries: deque[SeenRequest] = deque(maxlen=_KEPT)
            self._counts: Counter[str] = Counter()

    def note(self, seen: SeenRequest) -> None:
        """Add a request that has been answered."""
        with self._lock:
            self._entries.append(seen)
            counts = self._counts
            counts["requests"] += 1
            counts["cost"] += seen.cost
            counts[f"status {seen.status}"] += 1
            if seen.method:
                counts[f"method {seen.method}"] += 1
            if seen.tool:
                counts["tool_calls"] += 1
                counts["tool_errors"] += seen.is_error

    @property
    def entries(self) -> list[SeenRequest]:
        """All requests that are kept, oldest first."""
        with self._lock:
            return list(self._entries)

    @property
    def calls(self) -> list[SeenRequest]:
        """The tool calls among them."""
        return [seen for seen in self.entries if seen.tool]

    def counts(self) -> dict[str, int]:
        """Count requests: all, by status, by method, tool calls, tool errors, upstream cost."""
        with self._lock:
            return dict(self._counts)
