"""Faults that tests ask for: answers that get lost, answers that are lies, jobs that fail or take long."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# refuse: answer with an error and do nothing. lose: do it, and close the connection. drop: close the connection and do
# nothing. lie: do it, and answer with an error. half: keep half of a chunk. hold: do it when `release` was called.
# page: answer with a status and a page for people, and do nothing.
# garble: do it, and answer 200 with a page for people, as some proxies do. empty: do it, and answer 200 with nothing.
ACTIONS = {"refuse", "lose", "drop", "lie", "half", "hold", "garble", "empty", "page"}


@dataclass
class Faults:
    """The faults that are left."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while it is answered."""
        with self.changed:
            self.running += 1
        try:
            yield
        finally:
            with self.changed:
                self.running -= 1
                self.changed.notify_all()

    def idle(self) -> bool:
        """Wait until no request is being answered."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.running, timeout=30)

    def add(self, fault: dict[str, Any]) -> None:
        if "job" in fault:
            self.jobs.append({"times": 1, **fault})
            return
        if fault["action"] not in ACTIONS:
            raise ValueError(f"unknown action '{fault['action']}'")
        self.requests.append({"times": 1, "skip": 0, **fault})

    def of_request(self, method: str, path: str) -> dict[str, Any]:
        for fault in self.requests:
            if fault["method"] in ("", method) and re.search(fault["path"], path):
                if fault["skip"] > 0:
                    fault["skip"] -= 1
                    continue
                if fault["times"] > 0:
                    fault["times"] -= 1
                    return fault
        return {}

    def of_job(self, job_id: str) -> dict[str, Any]:
        for fault in self.jobs:
            if fault["times"] > 0 and re.search(fault["job"], job_id):
                fault["times"] -= 1
                return fault
        return {}
