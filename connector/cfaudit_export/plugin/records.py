"""What hooks return: small frozen records that say how to build a thing, not the thing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cfaudit_export.core.model import Stream
from cfaudit_export.plugin.resources import SharedResources

if TYPE_CHECKING:
    import pyarrow as pa

    from cfaudit_export.plugin.interfaces import CheckpointStore, Sink, Source


class Credential(Protocol):
    """What proves who we are. Built by the core; a source only asks it for the token of the moment."""

    @property
    def kind(self) -> str:
        """`user token`, `account token`, `token` (kind unknown) or `oauth`."""
        ...

    async def token(self) -> str | None:
        """Return the bearer token to send, renewed beforehand when it is about to expire; None to send none.

        Raises:
            AccessError: there is none and no way to get one without a person.
        """
        ...

    async def renew(self, refused: str) -> bool:
        """Get a new token because the server refused this one; False when this kind cannot be renewed.

        Single flight: concurrent callers who name the same refused token share one renewal.

        Raises:
            AccessError: the grant is gone; a person must sign in.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recover:
    """Which columns a source that trims its rows should rebuild by asking again with filters.

    Attributes:
        mode: `auto` what the call budget allows, decided per piece; `all` whatever it costs; `off` none.
        values: candidate values for filters beyond the enumerated ones, for example `zone_name`.
    """

    mode: Literal["auto", "off", "all"] = "auto"
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What the core gives a source beside its own settings.

    Attributes:
        stream: what to read; `stream.filters` are to be applied by the server.
        credential: whom to ask for the bearer token.
        clock: the time, aware and UTC; never call `datetime.now` instead.
        progress: call it with counters that a progress bar may show: `events`, `calls`, `calls_left`, `waiting`; and
            with what metrics tell of a run: `retries`, `throttles`, `waited_seconds`. The last word of each counts.
        recover: what to rebuild of trimmed rows.
        max_wait_seconds: a bound for all waiting of the run (throttling, retries); None is the source's own default.
        shared: the same for all sources of this process that use the same credential; what they must share is kept
            here by the first that needs it, as the budget of calls is, and what they may share, as a session is.
        has_filler: whether another source reads the gaps: then they need not be as short as can be.
    """

    stream: Stream
    credential: Credential = field(repr=False)
    clock: Callable[[], datetime]
    progress: Callable[[dict[str, Any]], None] = lambda _counters: None
    recover: Recover = Recover()
    max_wait_seconds: float | None = None
    shared: SharedResources = field(default_factory=SharedResources, repr=False)
    has_filler: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class SourcePlugin:
    """How to build a source.

    Attributes:
        name: what `--source` takes.
        config: a frozen dataclass; its fields are the keys under `[sources.NAME]`. Secret fields have `repr=False`.
        build: makes the source; does no I/O.
        summary: one line for `plugins`.
        extra: the pip extra that brings its libraries, None when it needs none.
        filters: names of filters it can apply, for `--help` and for refusing others before connecting.
        log: name of the log it reads, where that is the log of another source too: each goes on where the other
            stopped, and can fill the other's gaps. Their events must have equal keys. Empty for a log of its own.
        needs_credential: False for a source without a server, as one that reads files: no token is asked for.
    """

    name: str
    config: type[Any]
    build: Callable[[Any, SourceContext], Source]
    summary: str
    extra: str | None = None
    filters: tuple[str, ...] = ()
    log: str = ""
    needs_credential: bool = True


@dataclass(frozen=True, slots=True)
class SinkPlugin:
    """How to build a sink.

    Attributes:
        name: what `--sink` takes.
        config: a frozen dataclass; its fields are the keys under `[sinks.NAME]`. Secret fields have `repr=False`. A
            field `retry_seconds`, for how long a load is tried again, is never more than the run may wait.
        build: makes the sink; does no I/O.
        summary: one line for `plugins`.
        extra: the pip extra that brings its libraries, None when it needs none.
        destination: returns from the settings the name of the place where events go: path, bucket and prefix, table,
            index. What a sink has of a stream belongs to that place: a run with another one stops and asks. Does no
            I/O beyond resolving a path, and holds no secret. None for a sink that does not tell places apart.
    """

    name: str
    config: type[Any]
    build: Callable[[Any], Sink]
    summary: str
    extra: str | None = None
    destination: Callable[[Any], str] | None = None


@dataclass(frozen=True, slots=True)
class CheckpointStorePlugin:
    """How to build a checkpoint store.

    Attributes:
        name: what `checkpoint.store` takes.
        config: a frozen dataclass; its fields are further keys under `[checkpoint]`.
        build: makes the store from its settings and the state directory; does no I/O.
        summary: one line for `plugins`.
        extra: the pip extra that brings its libraries, None when it needs none.
    """

    name: str
    config: type[Any]
    build: Callable[[Any, Path], CheckpointStore]
    summary: str
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class TransformPlugin:
    """How to build a transform: table in, table of the same schema out, identity columns untouched.

    Attributes:
        name: what `transform` takes.
        config: a frozen dataclass; its fields are the keys under `[transforms.NAME]`.
        build: makes the function.
        summary: one line for `plugins`.
        extra: the pip extra that brings its libraries, None when it needs none.
    """

    name: str
    config: type[Any]
    build: Callable[[Any], Callable[[pa.Table], pa.Table]]
    summary: str
    extra: str | None = None
