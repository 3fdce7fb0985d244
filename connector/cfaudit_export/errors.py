"""Errors, sorted by what the person who runs the program must do. Each carries the exit code.

The numbers follow `sysexits.h` where it has a fitting one. Nothing else in the program chooses an exit code:
an error does (`CfauditError.exit_code`), or a finished run does (`RunReport.exit_code`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a finished process tells its caller."""

    OK = 0
    CHANGED = 1
    USAGE = 2
    INCOMPLETE = 65
    SINK_DOWN = 69
    BUG = 70
    TRY_AGAIN = 75
    PROTOCOL = 76
    ACCESS = 77
    SETTINGS = 78

    @property
    def meaning(self) -> str:
        """Return the sentence that the documentation prints for this code."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "all delivered, also when there was nothing new",
    ExitCode.CHANGED: "verify: data changed, removed or added; alert: what --fail-on names",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.INCOMPLETE: "delivered, but gaps or quarantined rows remain",
    ExitCode.SINK_DOWN: "a sink is down",
    ExitCode.BUG: "a fault in this program; the traceback is on stderr",
    ExitCode.TRY_AGAIN: "try again later: source down, throttled, or another run holds the lock",
    ExitCode.PROTOCOL: "the server answered something this version was not built for",
    ExitCode.ACCESS: "sign in again, or a permission is missing",
    ExitCode.SETTINGS: "the settings are wrong",
}


# What needs a person first comes first: several things may go wrong in one run, and one number has to say it.
_BY_SEVERITY = (
    ExitCode.BUG,
    ExitCode.CHANGED,
    ExitCode.USAGE,
    ExitCode.SETTINGS,
    ExitCode.ACCESS,
    ExitCode.PROTOCOL,
    ExitCode.SINK_DOWN,
    ExitCode.TRY_AGAIN,
    ExitCode.INCOMPLETE,
    ExitCode.OK,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that a process with all these outcomes ends with; OK when there are none."""
    return min(codes, key=_BY_SEVERITY.index, default=ExitCode.OK)


_ACCOUNTS_SHOWN = 30


class CfauditError(Exception):
    """The root: every error this program means to be read by a person."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    retry_after_seconds: float | None = None


# -- the person must change what they typed or configured ----------------------------------------


class UsageError(CfauditError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE


class SettingsError(CfauditError):
    """A setting is unknown, malformed or contradicts another."""

    exit_code = ExitCode.SETTINGS


class PluginError(SettingsError):
    """A plugin that the settings name is missing, broken, or claimed by two distributions."""


class AccountChoiceError(SettingsError):
    """The credential can use several accounts, and the settings do not say which one is meant.

    Attributes:
        accounts: id and name of each that is known.
    """

    def __init__(self, accounts: Iterable[tuple[str, str]]) -> None:
        """Build the error from id and name of each account that can be used."""
        self.accounts = tuple(accounts)
        listed = ", ".join(f"{account} ({name})" for account, name in self.accounts[:_ACCOUNTS_SHOWN])
        if (more := len(self.accounts) - _ACCOUNTS_SHOWN) > 0:
            listed += f" and {more} more"
        which = f"this credential can use: {listed}" if listed else "the server does not list them"
        super().__init__(f"choose an account with --account, or all with --account all; {which}")


class CheckpointDamagedError(SettingsError):
    """A checkpoint exists but cannot be read; it is never restarted silently."""


# -- the person must sign in or ask for a right --------------------------------------------------


class AccessError(CfauditError):
    """The credential is refused, expired, or lacks a permission."""

    exit_code = ExitCode.ACCESS


# -- nothing to do but to try again later ---------------------------------------------------------


class TryAgainError(CfauditError):
    """The fault is expected to pass; the checkpoint holds what was finished.

    `retry_after_seconds` is how long that takes, where it is known.
    """

    exit_code = ExitCode.TRY_AGAIN

    def __init__(self, *args: object, retry_after_seconds: float | None = None) -> None:
        super().__init__(*args)
        self.retry_after_seconds = retry_after_seconds


class SourceUnavailableError(TryAgainError):
    """The server cannot be reached or fails, and the time allowed for retries is spent."""


class ThrottledError(TryAgainError):
    """The server blocks our calls, and waiting it out would exceed the time allowed."""


class LockedError(TryAgainError):
    """Another run holds this stream."""


class CheckpointConflictError(TryAgainError):
    """Another run changed the checkpoint since it was read; this run stops and changes nothing."""


class StagingError(TryAgainError):
    """A batch cannot be staged on the local disk, for example because it is full."""


# -- a plugin does what it may not ------------------------------------------------------------------


class TransformError(CfauditError):
    """A transform failed, or changed what tells events apart; nothing of its rows was delivered."""


# -- a destination ---------------------------------------------------------------------------------


class SinkError(CfauditError):
    """A sink cannot take a batch now; the batch stays staged and is loaded first by the next run."""

    exit_code = ExitCode.SINK_DOWN


class LoadUnknownError(SinkError):
    """A sink gave no answer: the batch may or may not be there. Loading it again must be safe."""


class SinkRefusedError(SinkError):
    """A sink refuses for good: permission, missing bucket or table, wrong settings."""

    exit_code = ExitCode.SETTINGS


# -- the server is not what we were built for ---------------------------------------------------


class ProtocolError(CfauditError):
    """The server's answer has a shape this version does not know."""

    exit_code = ExitCode.PROTOCOL
