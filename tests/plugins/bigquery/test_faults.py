from __future__ import annotations

import pytest

from cfaudit_bigquery.faults import (
    DestinationNames,
    PassingError,
    fault,
    invalid_words,
    one_line,
    row_faults,
    without_values,
)
from cfaudit_export import LoadUnknownError, SinkError, SinkRefusedError

PLACE = DestinationNames("proj", "proj.audit")


@pytest.mark.parametrize(
    ("reason", "status"),
    [("rateLimitExceeded", 403), ("backendError", 503), ("jobBackendError", 0), ("", 500), ("", 429), ("", 502)],
)
def test_what_passes_is_tried_again(reason: str, status: int) -> None:
    found = fault(reason, status, "wait", PLACE)
    assert isinstance(found, PassingError)
    assert type(found.error) is SinkError


def test_what_passes_but_may_have_been_done_is_unknown() -> None:
    found = fault("backendError", 503, "wait", PLACE, maybe_done=True)
    assert isinstance(found, PassingError)
    assert isinstance(found.error, LoadUnknownError)


@pytest.mark.parametrize("reason", ["quotaExceeded", "resourcesExceeded", "stopped", "timeout"])
def test_what_does_not_pass_soon_is_left_to_the_next_run(reason: str) -> None:
    found = fault(reason, 403, "enough", PLACE)
    assert type(found) is SinkError
    assert "enough" in str(found)
    assert "next run" in str(found)


@pytest.mark.parametrize(
    ("reason", "status", "advice"),
    [
        ("authError", 401, "renew them, or set credentials_file"),
        ("accessDenied", 403, "grant the role BigQuery Data Editor on the dataset 'proj.audit'"),
        ("billingNotEnabled", 403, "BigQuery Job User on the project 'proj'"),
        ("", 403, "BigQuery Job User on the project 'proj'"),
        ("accessDenied", 0, "BigQuery Data Editor"),
        ("notFound", 404, "create the dataset 'proj.audit', or correct table, project or location"),
        ("invalid", 400, "BigQuery refuses: so"),
        ("somethingNew", 400, "BigQuery refuses: so"),
    ],
)
def test_what_stays_needs_a_person_and_says_what_to_do(reason: str, status: int, advice: str) -> None:
    found = fault(reason, status, "so", PLACE)
    assert isinstance(found, SinkRefusedError)
    assert advice in str(found)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Could not parse 'it's secret' as TIMESTAMP. Field: at", "Could not parse ... as TIMESTAMP. Field: at"),
        ('Couldn\'t convert "secret" to int. Field: n', "Couldn't convert ... to int. Field: n"),
        (
            "Could not convert value. Field: name; Value: secret \n secret",
            "Could not convert value. Field: name; Value: ...",
        ),
        ("Row size is larger than: 104857600.", "Row size is larger than: 104857600."),
    ],
)
def test_values_are_left_out_of_words(words: str, shown: str) -> None:
    assert without_values(words) == shown


def test_words_fit_on_one_line_and_cannot_steer_a_terminal() -> None:
    assert one_line("a\nb\x1b[31m\u202e") == "a b [31m "
    assert len(one_line("x" * 10_000)) < 500


def test_rows_are_named_by_their_positions() -> None:
    errors = [
        {"reason": "invalid", "message": "JSON table encountered too many errors, giving up. Rows: 9; errors: 2."},
        {"reason": "invalid", "message": "JSON parsing error in row starting at position 43: Value: secret"},
        {"reason": "invalid", "message": "JSON parsing error in row starting at position 99: No such field: x."},
        {"reason": "invalid"},
    ]
    assert row_faults(errors) == {43: "JSON parsing error in row starting at position 43: Value: ..."}
    assert invalid_words(errors[0], errors) == "JSON parsing error in row starting at position 43: Value: ..."
    assert invalid_words(errors[0], []) == errors[0]["message"]
