"""What goes wrong between us and a store, and what the person who runs the export is told."""

from __future__ import annotations

import itertools
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Batch, LoadUnknownError, SinkError, SinkRefusedError, TryAgainError
from cfaudit_export.errors import ExitCode
from cfaudit_export.testing import make_batch
from cfaudit_s3 import wire
from cfaudit_s3.store import S3Store

KEY_ID, SECRET = "AKIDFORTESTS", "secret-for-tests"


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=3)


REFUSALS = [
    (403, "AccessDenied", r"not allowed \(403 AccessDenied: so it is\); grant s3:PutObject$"),
    (403, "InvalidAccessKeyId", "the access key is not known there; check the credentials"),
    (403, "SignatureDoesNotMatch", "the secret key is wrong; check the credentials"),
    (403, "RequestTimeTooSkewed", "this machine's clock is wrong; set it"),
    (400, "ExpiredToken", "the credentials have expired; sign in again"),
    (400, "InvalidStorageClass", "set another storage_class"),
    (400, "KMS.DisabledException", "grant kms:GenerateDataKey and kms:Decrypt on a key that is enabled"),
    (400, "SomethingNew", r"the store refuses it \(400 SomethingNew: so it is\); change the settings"),
    (404, "NoSuchBucket", "there is no such bucket; create it, or set another one"),
    (501, "NotImplemented", "this store cannot do that"),
]
FAILURES = [
    (500, "InternalError"),
    (503, "SlowDown"),
    (503, "ServiceUnavailable"),
    (507, "XMinioStorageFull"),
    (429, "TooManyRequests"),
    (400, "RequestTimeout"),
    (409, "OperationAborted"),
]


@pytest.mark.parametrize(("status", "code", "words"), REFUSALS)
def test_what_will_not_change_by_itself_is_refused_with_what_to_do(
    behind: Any, weather: Any, batch: Batch, status: int, code: str, words: str
) -> None:
    weather.strike("PUT", (status, code))
    with pytest.raises(SinkRefusedError, match=words) as refusal:
        behind.sink().load(batch)
    assert str(refusal.value).startswith(f"cannot write 's3://{behind.bucket}/{behind.prefix}_cfaudit/batches/")
    assert refusal.value.exit_code is ExitCode.SETTINGS


@pytest.mark.parametrize(("status", "code"), FAILURES)
def test_what_may_pass_is_a_failure_for_now(behind: Any, weather: Any, batch: Batch, status: int, code: str) -> None:
    weather.strike("", (status, code))
    with pytest.raises(SinkError, match=f"{status} {code}.*try again later") as failure:
        behind.sink(attempts=1).load(batch)
    assert not isinstance(failure.value, LoadUnknownError)
    assert failure.value.exit_code is ExitCode.SINK_DOWN


def test_with_kms_the_rights_on_the_key_are_named_too(behind: Any, weather: Any, batch: Batch) -> None:
    weather.strike("", (403, "AccessDenied"))
    with pytest.raises(
        SinkRefusedError, match="grant s3:PutObject, and kms:GenerateDataKey and kms:Decrypt on the key"
    ):
        behind.sink(sse="aws:kms").load(batch)


@pytest.mark.parametrize("what", ["PUT note", "PUT data", "POST data begin", "PUT data part", "POST data complete"])
def test_a_fault_that_passes_is_never_seen(behind: Any, weather: Any, tmp_path: Path, what: str) -> None:
    batch = make_batch(tmp_path, rows=4, days=1 if what == "PUT data" else 2)
    weather.strike(what, (503, "SlowDown"), times=1)
    assert not behind.sink(attempts=3).load(batch).already
    assert len(behind.ids()) == 4


@pytest.mark.parametrize("what", ["PUT note", "PUT data", "POST data complete"])
def test_a_conflict_with_another_write_in_flight_is_waited_out(
    behind: Any, weather: Any, tmp_path: Path, what: str
) -> None:
    batch = make_batch(tmp_path, rows=4, days=1 if what == "PUT data" else 2)
    weather.strike(what, (409, "ConditionalRequestConflict"), times=2)
    assert not behind.sink(attempts=1).load(batch).already
    assert len(behind.ids()) == 4


def test_a_conflict_without_an_end_is_given_up(behind: Any, weather: Any, batch: Batch) -> None:
    weather.strike("PUT data", (409, "ConditionalRequestConflict"))
    with pytest.raises(SinkError, match="409 ConditionalRequestConflict.*try again later"):
        behind.sink(attempts=1).load(batch)
    assert weather.whats().count("PUT data") == 6


def test_a_store_that_is_not_there_is_a_failure_for_now(place: Any, batch: Batch) -> None:
    with pytest.raises(SinkError, match="the store cannot be reached"):
        place.through("http://127.0.0.1:9").sink(attempts=1).load(batch)


def test_a_connection_that_breaks_before_anything_is_stored_leaves_nothing(
    behind: Any, weather: Any, batch: Batch
) -> None:
    weather.strike("", "drop")
    with pytest.raises(LoadUnknownError, match="the answer was lost"):
        behind.sink(attempts=1).load(batch)
    assert behind.listed() == []


def test_an_answer_that_drips_holds_neither_sink_nor_store(place: Any, dripping: str, batch: Batch) -> None:
    """A byte now and then is no silence, and no answer either."""
    slow = place.through(dripping)
    with pytest.raises(LoadUnknownError, match="not finished within .*try again later"):
        slow.sink(attempts=1, timeout_seconds=0.2).load(batch)
    store = S3Store(slow.store_config(attempts=1, timeout_seconds=0.2))
    for ask in (lambda: store.load("0" * 16), lambda: list(store.streams())):
        with pytest.raises(TryAgainError, match="not finished within"):
            ask()


def test_a_reply_or_a_list_without_end_fills_no_memory(
    place: Any, behind: Any, weather: Any, pages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weather.strike("", replace(pages["a page"], body=b"<ListBucketResult>" + b"<a/>" * 2_000_000))
    store = S3Store(behind.store_config(attempts=1))
    with pytest.raises(TryAgainError, match="the reply is larger than 4,000,000 bytes"):
        list(store.streams())
    document = replace(pages["a page with a tag"], body=b"[" * 2_000_000)
    monkeypatch.setattr(wire, "_MOST_OBJECT_BYTES", 1_000_000)
    weather.strike("", document)
    with pytest.raises(TryAgainError, match="the object is larger than 1,000,000 bytes"):
        store.load("0" * 16)
    monkeypatch.setattr(wire, "_MOST_PAGES", 3)
    told = itertools.count()
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>"

    def next_page(_seen: Any) -> Any:
        listed = f"<Name>b</Name>{more % next(told)}"
        return replace(pages["a page"], body=f"<ListBucketResult>{listed}</ListBucketResult>".encode())

    weather.fate = next_page
    with pytest.raises(TryAgainError, match="the list has more than 3 pages"):
        list(store.streams())


def test_a_bucket_whose_name_cannot_be_one_is_refused(place: Any, batch: Batch) -> None:
    with pytest.raises(SinkRefusedError, match="Invalid bucket name"):
        place.sink(bucket="no such name!").load(batch)


def test_a_bucket_that_does_not_exist_is_refused_by_find_too(place: Any, batch: Batch) -> None:
    with pytest.raises(SinkRefusedError, match="there is no such bucket"):
        place.sink(bucket="nobody-made-this").find(batch.batch_id, batch.window)


def test_a_profile_that_does_not_exist_is_refused_when_it_is_needed(place: Any, batch: Batch) -> None:
    sink = place.sink(profile="nobody")
    with pytest.raises(SinkRefusedError, match="nobody"):
        sink.load(batch)
    sink.close()


def test_without_credentials_it_is_said_where_they_are_looked_for(
    place: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SinkRefusedError, match="no usable credentials .*; check the credentials: environment, profile"):
        place.sink().load(batch)


@pytest.mark.parametrize(("status", "code"), [(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (503, "No")])
def test_no_error_shows_a_secret(behind: Any, weather: Any, batch: Batch, status: int, code: str) -> None:
    weather.strike("", (status, code))
    with pytest.raises((SinkError, SinkRefusedError)) as fault:
        behind.sink(attempts=1).load(batch)
    shown = "".join(traceback.format_exception(fault.value)) + repr(behind.config())
    assert SECRET not in shown
    assert KEY_ID not in shown


@pytest.mark.parametrize("code", ["Bad\u202e[31m\nCode", "NoXml\x1b[31m"])
def test_words_of_a_store_are_shown_as_one_harmless_line(behind: Any, weather: Any, batch: Batch, code: str) -> None:
    weather.strike("", (400, code))
    with pytest.raises(SinkError) as refusal:
        behind.sink(attempts=1).load(batch)
    assert str(refusal.value).isprintable()


# -- stores that hide what does not exist ------------------------------------------------------------------------


@pytest.fixture
def hidden(behind: Any, weather: Any) -> Any:
    """A bucket whose contents we may not list: it answers 403 where others answer 404, as AWS does then."""
    weather.status = lambda seen, status: 403 if status == 404 and seen.method in {"GET", "HEAD"} else status
    return behind


def test_find_is_certain_by_a_list_where_a_store_hides_what_is_not_there(
    hidden: Any, batch: Batch, tmp_path: Path
) -> None:
    sink = hidden.sink()
    assert sink.find(batch.batch_id, batch.window) is None
    assert hidden.listed() == []
    sink.load(batch)
    assert hidden.sink().find(batch.batch_id, batch.window) is not None
    other = make_batch(tmp_path, rows=3, seed=9)
    assert hidden.sink().find(other.batch_id, other.window) is None


def test_find_will_not_guess_without_the_right_to_list(hidden: Any, weather: Any, batch: Batch) -> None:
    weather.fate = lambda seen: (403, "AccessDenied") if "list-type" in seen.path else "pass"
    with pytest.raises(SinkRefusedError, match="grant s3:GetObject and s3:ListBucket"):
        hidden.sink().find(batch.batch_id, batch.window)


def test_an_archived_note_is_not_a_missing_one(behind: Any, weather: Any, batch: Batch) -> None:
    behind.sink().load(batch)
    weather.strike("GET note", (403, "InvalidObjectState"))
    with pytest.raises(SinkRefusedError, match="the object is archived; restore it"):
        behind.sink().find(batch.batch_id, batch.window)


def test_find_will_not_guess_without_the_right_to_read(behind: Any, weather: Any, batch: Batch) -> None:
    weather.fate = lambda seen: (403, "AccessDenied") if seen.method in {"GET", "HEAD"} else "pass"
    behind.sink().load(batch)
    with pytest.raises(SinkRefusedError, match="grant s3:GetObject"):
        behind.sink().find(batch.batch_id, batch.window)
    with pytest.raises(SinkRefusedError, match="grant s3:GetObject"):
        behind.sink().load(batch)


# -- check -------------------------------------------------------------------------------------------------------


def test_check_says_what_was_proved_and_where(place: Any) -> None:
    assert place.sink().check() == (
        f"wrote and read an object and began an upload in 's3://{place.bucket}/{place.prefix}' at {place.url}; "
        "conditional writes are honoured"
    )
    assert place.listed() == []
    assert place.uploads() == []


def test_check_needs_no_right_to_remove_or_list(hidden: Any, weather: Any) -> None:
    weather.fate = lambda seen: (403, "AccessDenied") if seen.method == "DELETE" or "list-type" in seen.path else "pass"
    sink = hidden.sink()
    for _ in range(2):
        assert sink.check().endswith("_cfaudit/check' stays, as nothing may be removed")
        sink.close()
        sink = hidden.sink()
    assert [key.removeprefix(hidden.prefix) for key in hidden.listed()] == ["_cfaudit/check"]


@pytest.mark.parametrize(
    ("method", "right"), [("PUT", "s3:PutObject"), ("GET", "s3:GetObject"), ("POST", "s3:PutObject")]
)
def test_check_names_the_right_that_is_missing(behind: Any, weather: Any, method: str, right: str) -> None:
    weather.fate = lambda seen: (403, "AccessDenied") if seen.method in {method, "HEAD"} else "pass"
    with pytest.raises(SinkRefusedError, match=f"grant {right}"):
        behind.sink().check()


def test_check_sees_that_a_storage_class_is_not_known(behind: Any, weather: Any) -> None:
    weather.fate = lambda seen: (
        (400, "InvalidStorageClass") if seen.headers.get("x-amz-storage-class") == "COLD" else "pass"
    )
    with pytest.raises(SinkRefusedError, match="set another storage_class"):
        behind.sink(storage_class="COLD").check()
