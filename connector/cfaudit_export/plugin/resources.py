"""What the sources of one process have in common, from one account to the next: a budget, open sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class SharedResources:
    """What a source leaves here, the source of the next account finds. All of them use one credential and one thread.

    Attributes:
        values: what outlives a failure: the budget that is spent, what was learned about the accounts.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._open: dict[str, tuple[Any, ExitStack]] = {}
        self._is_kept = False

    def opened(self, name: str, enter: Callable[[ExitStack], T]) -> T:
        """Return what is open under a name; `enter` opens it where it is not, and leaves its closing to the stack."""
        if name not in self._open:
            with ExitStack() as stack:
                self._open[name] = enter(stack), stack.pop_all()
        found: T = self._open[name][0]
        return found

    def beside(self) -> SharedResources:
        """Return another one of the same values, with sessions of its own: for a source that may fail alone."""
        other = SharedResources()
        other.values = self.values
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
