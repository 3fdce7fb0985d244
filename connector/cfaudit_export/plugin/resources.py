"""What the sources of one process have in common, from one account to the next: a budget, open sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from cfaudit_export.plugin.shared_documents import SharedBudget

T = TypeVar("T")

FIRST_ACCOUNT = "first account"
"""The value that names the account that is begun with, where several are read side by side."""


class StoppedError(BaseException):
    """The run is to end now, whatever it is doing; no error of the run itself."""


class StopSignal:
    """Tells what runs in other threads that it is to end, and ends what these threads wait for."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._ends: dict[int, Callable[[], None]] = {}
        self.is_set = False

    def set(self) -> None:
        """Tell everyone, once and for all."""
        with self._turn:
            self.is_set = True
            ends, self._ends = list(self._ends.values()), {}
        for end in ends:
            end()

    def check(self) -> None:
        """Raise StoppedError once the signal is set."""
        if self.is_set:
            raise StoppedError

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called when the signal is set while the context lasts; at once where it is set already.

        It is called in the thread of the one who sets the signal.
        """
        key = id(end)
        with self._turn:
            if not self.is_set:
                self._ends[key] = end
        try:
            if self.is_set:
                end()
            yield
        finally:
            with self._turn:
                self._ends.pop(key, None)


class SharedResources:
    """What a source leaves here, the source of the next account finds. All of them use one credential.

    Sessions serve one thread. Accounts that are read side by side have `beside()` each: sessions of their own, and the
    same values.

    Attributes:
        values: what outlives a failure, and is known to all threads: the budget that is spent, what was learned about
            the accounts. Set with `setdefault`, or as a whole.
        own: what outlives a failure, and is about these sessions only.
        stop: tells what waits here that the run is to end.
        budget: where workers share the budget of calls; None where each process has its own.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.stop = StopSignal()
        self.budget: SharedBudget | None = None
        self._open: dict[str, tuple[Any, ExitStack]] = {}
        self._is_kept = False

    def opened(self, name: str, enter: Callable[[ExitStack], T]) -> T:
        """Return what is open under a name; `enter` opens it where it is not, and leaves its closing to the stack."""
        if name not in self._open:
            with ExitStack() as stack:
                self._open[name] = enter(stack), stack.pop_all()
        found: T = self._open[name][0]
        return found

    def beside(self, stop: StopSignal | None = None) -> SharedResources:
        """Return another one of the same values, with sessions of its own: for a source that may fail alone.

        Args:
            stop: tells it to end, where that is another signal than of this one.
        """
        other = SharedResources()
        other.values, other.stop, other.budget = self.values, stop or self.stop, self.budget
        return other

    def release(self, name: str) -> None:
        """Close what is open under a name, unless it is kept for the next user."""
        if not self._is_kept and name in self._open:
            self._open.pop(name)[1].close()

    def close(self) -> None:
        """Close all that is open; who asks next opens it anew. After a failure, no other user is to suffer from it."""
        while self._open:
            self._open.popitem()[1][1].close()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep open what was opened, as long as the context lasts."""
        self._is_kept = True
        try:
            yield
        finally:
            self._is_kept = False
            self.close()
