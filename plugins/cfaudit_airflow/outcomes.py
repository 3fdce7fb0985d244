"""How a run ended -> what Airflow is told: done, try again and when, or fail at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cfaudit_export import CfauditError, ExitCode, RunReport

RETRIED = frozenset({ExitCode.SINK_DOWN, ExitCode.TRY_AGAIN})


class ExportAgainError(AirflowException):  # type: ignore[misc]  # typed only where Airflow is installed
    """The export stopped for a reason that passes; what was finished is kept.

    Attributes:
        retry_after_seconds: how long that takes, None where it is not known.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RetryAfter(RetryPolicy):  # type: ignore[misc]  # typed only where Airflow is installed
    """Retry an export when the server allows it again, where that is known; else as the task says."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        """Return how to go on after this exception."""
        if isinstance(exception, ExportAgainError) and exception.retry_after_seconds:
            delay = timedelta(seconds=exception.retry_after_seconds)
            return RetryDecision.retry(delay, f"what stopped it is over in {delay.total_seconds():.0f} s")
        return RetryDecision.default()


def failure(code: ExitCode, why: str, retry_after_seconds: float | None = None) -> AirflowException:
    """Return the exception to raise for a run that ended with this code."""
    text = f"{why} (exit code {int(code)}: {code.meaning})"
    return ExportAgainError(text, retry_after_seconds) if code in RETRIED else AirflowFailException(text)


@contextmanager
def failing(redact: Callable[[str], str]) -> Iterator[None]:
    """Raise for an error of the program what Airflow is told of it, without secrets.

    The error itself is left out of the chain: Airflow logs the text of every one in it.
    """
    try:
        yield
    except CfauditError as error:
        raise failure(error.exit_code, redact(str(error)), error.retry_after_seconds) from None


def problems_of(report: RunReport) -> list[str]:
    """Return what is wrong with a run, and of which account it was."""
    account = _account(report)
    found = [f"account {account}: {report.error}"] if report.error else []
    found += [f"account {account}, sink '{sink.name}': {sink.error}" for sink in report.sinks if sink.error]
    if report.gaps:
        found.append(f"account {account}: windows that could not be read: {len(report.gaps)}")
    if not found and report.exit_code is not ExitCode.OK:
        found.append(f"account {account}: events that a sink refuses are quarantined")
    return found


def trimmed(reports: Sequence[RunReport]) -> str:
    """Return where events were exported without recovered columns; empty for nowhere."""
    return "; ".join(
        f"account {_account(one)}: {one.trimmed:,} events exported without recovered columns, call budget exhausted"
        for one in reports
        if one.trimmed
    )


def _account(report: RunReport) -> str:
    """Return the account of a run; one that could not connect may not know it yet."""
    return report.stream.account_id or "not known yet"
