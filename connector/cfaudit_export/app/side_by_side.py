"""Accounts -> work done for several of them at once, each in a thread with sessions and a store of its own.

The threads share the budget of calls, and what was learned about the accounts. Who has little to read goes first, so
that a backfill of days does not keep hourly exports waiting.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, TypeVar

from cfaudit_export.app.compose import Assembly
from cfaudit_export.app.log import AccountInLogs
from cfaudit_export.app.resolve import open_store
from cfaudit_export.app.transforms import transforms_of
from cfaudit_export.errors import CfauditError
from cfaudit_export.plugin.resources import FIRST_ACCOUNT, StopSignal
from cfaudit_export.stores.guarded import GuardedStore

T = TypeVar("T")

# What is behind by more is a backfill.
_HOURLY = timedelta(days=1)
# The process gives up all that has not ended a few seconds later.
_STOP_SECONDS = 5.0

Work = Callable[[Assembly, str], T]


def side_by_side(assembly: Assembly, accounts: Sequence[str], work: Work[T]) -> Generator[tuple[int, T], None, None]:
    """Do some work for every account, for `parallel` of them at once, and yield the results as they come.

    Closing the generator, or an exception at it, ends what is still being done; work that does not end within 5 s is
    abandoned, which is as safe as a crash.

    Args:
        assembly: what the work is done with; each thread is given one of its own.
        accounts: what it is done for.
        work: does it; what it raises is raised here, and ends all.

    Yields:
        The place of an account in `accounts`, and what was done for it.
    """
    order = _hourly_first(assembly, accounts) if len(accounts) > 1 else [*range(len(accounts))]
    threads = min(assembly.settings.parallel, len(accounts))
    if threads < 2:
        yield from ((at, work(assembly, accounts[at])) for at in order)
        return
    working = _Threads(assembly, accounts, order, work)
    with working.running(threads):
        for _ in accounts:
            yield working.next()


def in_order(pairs: Iterator[tuple[int, T]]) -> Iterator[T]:
    """Yield results in the order of the accounts, each as soon as those before it are there."""
    waiting: dict[int, T] = {}
    following = 0
    for at, found in pairs:
        waiting[at] = found
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _hourly_first(assembly: Assembly, accounts: Sequence[str]) -> list[int]:
    """Return the places of the accounts: first those that have at most a day to read."""
    now = assembly.clock()
    return sorted(range(len(accounts)), key=lambda at: _is_backfill(assembly, accounts[at], now))


def _is_backfill(assembly: Assembly, account: str, now: datetime) -> bool:
    if (since := assembly.settings.since) is not None and now - since > _HOURLY:
        return False  # as all others
    try:
        found = assembly.store.load(assembly.stream(account).id)
    except CfauditError:  # its run will say so, and end at once
        return False
    progress = found.checkpoint.sinks if found else {}
    ends = [
        progress[name].covered[-1].before if name in progress and progress[name].covered else None
        for name in assembly.sinks
    ]
    return any(end is None or now - end > _HOURLY for end in ends)


class _Threads(Generic[T]):
    """Threads that take one account after the other, and where they leave what was done."""

    def __init__(self, assembly: Assembly, accounts: Sequence[str], order: Sequence[int], work: Work[T]) -> None:
        self._assembly = assembly
        self._accounts = accounts
        self._work = work
        self._todo = SimpleQueue[int]()
        for place in order:
            self._todo.put(place)
        self._done = SimpleQueue[tuple[int, T] | BaseException]()
        self._stop = StopSignal()
        assembly.shared.values[FIRST_ACCOUNT] = accounts[order[0]]
        self._told = AccountInLogs()

    def next(self) -> tuple[int, T]:
        """Wait for what is done next. Raises what the work raised."""
        found = self._done.get()
        if isinstance(found, BaseException):
            raise found
        return found

    @contextmanager
    def running(self, count: int) -> Iterator[None]:
        """Have so many threads at work while the context lasts."""
        # An executor would be waited for when the process ends, and hang with what hangs.
        threads = [threading.Thread(target=self._serve, name=f"accounts-{at}", daemon=True) for at in range(count)]
        with self._told.told():
            for thread in threads:
                thread.start()
            try:
                yield
            except BaseException:
                self._stop.set()
                raise
            finally:
                _join(threads, _STOP_SECONDS if self._stop.is_set else None)

    def _serve(self) -> None:
        try:
            with _own(self._assembly, self._stop) as mine:
                while not self._stop.is_set:
                    place = self._todo.get_nowait()
                    account = self._accounts[place]
                    self._told.account.set(account)
                    self._done.put((place, self._work(mine, account)))
        except Empty:
            pass
        except BaseException as error:  # noqa: BLE001  # raised in the thread that takes the results
            if not self._stop.is_set:  # else it comes of that
                self._done.put(error)


@contextmanager
def _own(assembly: Assembly, stop: StopSignal) -> Iterator[Assembly]:
    """Yield the assembly for one thread; what it opened is closed with the context."""
    settings, plugins = assembly.settings, assembly.plugins
    store = GuardedStore(open_store(settings, plugins), assembly.redact, assembly.clock)
    transforms = transforms_of(settings, plugins)
    with ExitStack() as stack:

        def mine(one: Assembly) -> Assembly:
            shared = one.shared.beside(stop)
            stack.enter_context(shared.kept())
            return dataclasses.replace(
                one,
                shared=shared,
                store=store,
                transforms=transforms,
                filler=one.filler and mine(one.filler),
                otherwise=one.otherwise and mine(one.otherwise),
            )

        yield mine(assembly)


def _join(threads: Sequence[threading.Thread], seconds: float | None) -> None:
    end = None if seconds is None else monotonic() + seconds
    for thread in threads:
        thread.join(None if end is None else max(end - monotonic(), 0.0))
