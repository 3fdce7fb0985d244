from __future__ import annotations

import io
import itertools
import logging
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export import Batch, LoadUnknownError, SinkError, SinkRefusedError, Stream, read_batch
from cfaudit_export.testing import make_batch
from cfaudit_export.testing.batches import ACCOUNT_ID

DAY = "2026-11-01"


@pytest.fixture
def small(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=30)


@pytest.fixture
def two_days(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=30, days=2)


@pytest.fixture
def large(tmp_path: Path) -> Batch:
    """A batch of one day that does not fit into a part of the smallest size."""
    chance = __import__("random").Random(1)
    raws = [f'{{"description":"{chance.randbytes(4_000).hex()}"}}' for _ in range(2_000)]
    return make_batch(tmp_path, rows=2_000, changes={"event_raw": raws})


SMALLEST_PART = 5 << 20


def ids(batch: Batch) -> list[str]:
    return sorted(read_batch(batch)["event_id"].to_pylist())


# -- what is stored ---------------------------------------------------------------------------------------


def test_each_utc_day_becomes_one_object_in_its_hive_folder(place: Any, two_days: Batch) -> None:
    receipt = place.sink().load(two_days)
    folder = f"{place.prefix}account_id={ACCOUNT_ID}/event_date=2026-11-0"
    assert place.data_keys() == [f"{folder}{day}/{two_days.batch_id}.parquet" for day in (1, 2)]
    assert receipt.locations == tuple(f"s3://{place.bucket}/{key}" for key in place.data_keys())


def test_a_prefix_may_name_the_source_and_the_stream(place: Any, small: Batch) -> None:
    sink = place.sink(prefix=place.prefix + "{source}/x-{stream_id}/{account_id}-")
    sink.load(small)
    stream = small.stream
    expected = f"{place.prefix}auditlogs/x-{stream.id}/{ACCOUNT_ID}-account_id={ACCOUNT_ID}/event_date={DAY}/"
    assert place.data_keys() == [f"{expected}{small.batch_id}.parquet"]
    found = sink.find(small.batch_id, small.window)
    assert found
    assert found.rows == 30


def test_an_account_id_cannot_leave_its_folder(place: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1, stream=Stream("../x", "auditlogs"))
    place.sink().load(batch)
    assert place.data_keys() == [f"{place.prefix}account_id=..%2Fx/event_date={DAY}/{batch.batch_id}.parquet"]


def test_an_object_says_what_it_holds_in_its_file_and_beside_it(place: Any, two_days: Batch) -> None:
    place.sink().load(two_days)
    key = place.data_keys()[1]
    beside = place.client.head_object(Bucket=place.bucket, Key=key)["Metadata"]
    inside = pq.read_metadata(io.BytesIO(place.read(key))).metadata
    of_the_file = {b"ARROW:schema", b"cfaudit_footer_sha256"}
    said = {name.decode().replace("_", "-"): text.decode() for name, text in inside.items() if name not in of_the_file}
    assert said == beside
    assert beside["cfaudit-batch"] == two_days.batch_id
    assert beside["cfaudit-stream"] == two_days.stream.id
    assert beside["cfaudit-rows"] == "15"
    assert beside["cfaudit-schema-version"] == "1"
    assert beside["cfaudit-window"] == "2026-11-01T00:00:00.000Z/2026-11-03T00:00:00.000Z"


def test_encryption_class_and_type_are_asked_for(place: Any, small: Batch) -> None:
    place.sink(sse="aws:kms", kms_key_id="alias/audit", storage_class="STANDARD_IA").load(small)
    head = place.client.head_object(Bucket=place.bucket, Key=place.data_keys()[0])
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == "alias/audit"
    assert head["BucketKeyEnabled"]
    assert head["StorageClass"] == "STANDARD_IA"
    assert head["ContentType"] == "application/vnd.apache.parquet"


def test_encryption_and_class_are_asked_for_of_an_upload_in_parts(behind: Any, weather: Any, two_days: Batch) -> None:
    behind.sink(sse="AES256", storage_class="STANDARD_IA").load(two_days)
    begun = [seen.headers for seen in weather.seen if seen.what == "POST data begin"]
    assert [headers["x-amz-server-side-encryption"] for headers in begun] == ["AES256", "AES256"]
    assert [headers["x-amz-storage-class"] for headers in begun] == ["STANDARD_IA", "STANDARD_IA"]
    notes = [seen.headers for seen in weather.seen if seen.what == "PUT note"]
    assert all(headers["x-amz-server-side-encryption"] == "AES256" for headers in notes)
    assert not any("x-amz-storage-class" in headers for headers in notes), "notes are small and must stay readable"


@pytest.mark.parametrize(
    ("checksum", "header"),
    [("sha256", "x-amz-checksum-sha256"), ("crc32", "x-amz-checksum-crc32"), ("auto", "content-md5")],
)
def test_a_checksum_travels_with_every_content(
    place_at: Any, seaweed: str, proxy_to: Any, weather: Any, small: Batch, tmp_path: Path, checksum: str, header: str
) -> None:
    place = place_at(seaweed)
    days = make_batch(tmp_path, rows=10, days=2, seed=7)
    with proxy_to(seaweed, weather) as url:
        sink = place.through(url).sink(checksum=checksum)
        assert not sink.load(small).already
        assert not sink.load(days).already
        sink.close()
    sent = [seen for seen in weather.seen if seen.method == "PUT"]
    assert len(sent) >= 5
    assert all(header in seen.headers for seen in sent)
    assert place.ids() == sorted([*ids(small), *ids(days)])


@pytest.mark.parametrize("checksum", ["sha256", "auto"])
def test_content_garbled_on_the_way_is_not_stored(
    place_at: Any, seaweed: str, proxy_to: Any, weather: Any, small: Batch, two_days: Batch, checksum: str
) -> None:
    place = place_at(seaweed)
    weather.garbled = lambda seen: seen.what in {"PUT data", "PUT data part"}
    with proxy_to(seaweed, weather) as url:
        sink = place.through(url).sink(checksum=checksum)
        for batch in (small, two_days):
            with pytest.raises(SinkError, match="400 BadDigest.*try again later"):
                sink.load(batch)
        sink.close()
    assert place.data_keys() == []


# -- how it is sent -----------------------------------------------------------------------------------------


def test_a_small_batch_takes_a_note_and_an_object(behind: Any, weather: Any, tmp_path: Path) -> None:
    sink = behind.sink()
    sink.load(make_batch(tmp_path, rows=3, seed=1))
    assert weather.whats() == ["PUT note", "PUT note", "PUT data"], "the second note finds out about conditions"
    sink.load(make_batch(tmp_path, rows=3, seed=2))
    assert weather.whats() == ["PUT note", "PUT data"]


def test_a_large_object_is_sent_in_parts_of_one_size(behind: Any, weather: Any, large: Batch) -> None:
    receipt = behind.sink(part_bytes=SMALLEST_PART).load(large)
    sizes = [int(seen.headers["content-length"]) for seen in weather.seen if seen.what == "PUT data part"]
    assert sizes[0] == SMALLEST_PART
    assert 0 < sizes[1] < SMALLEST_PART
    assert len(sizes) == 2
    assert len(receipt.locations) == 1
    assert behind.ids() == ids(large)


def test_an_upload_whose_part_is_refused_is_aborted(behind: Any, weather: Any, large: Batch) -> None:
    weather.fate = lambda seen: (403, "AccessDenied") if "partNumber=2" in seen.path else "pass"
    with pytest.raises(SinkRefusedError, match="grant s3:PutObject"):
        behind.sink(part_bytes=SMALLEST_PART).load(large)
    assert "DELETE data abort" in weather.whats()
    assert behind.uploads() == []
    assert behind.listed() == []


def test_nothing_can_be_seen_until_the_note_stands(behind: Any, weather: Any, two_days: Batch) -> None:
    seen_by_others: list[list[str]] = []

    def fate(seen: Any) -> str:
        if seen.what == "PUT note":
            seen_by_others.append(behind.listed())
        return "pass"

    weather.fate = fate
    behind.sink().load(two_days)
    assert seen_by_others[0] == []
    assert weather.whats()[:5] == ["POST data begin", "PUT data part", "POST data begin", "PUT data part", "PUT note"]


# -- once -----------------------------------------------------------------------------------------------------


def test_a_second_load_replaces_nothing(place: Any, two_days: Batch) -> None:
    sink = place.sink()
    sink.load(two_days)
    before = [place.client.head_object(Bucket=place.bucket, Key=key)["Metadata"] for key in place.listed()]
    assert place.sink().load(two_days).already
    assert [place.client.head_object(Bucket=place.bucket, Key=key)["Metadata"] for key in place.listed()] == before
    assert place.uploads() == []


@pytest.mark.parametrize("what", ["PUT note", "PUT data", "POST data begin", "PUT data part", "POST data complete"])
def test_a_lost_answer_is_asked_for_again_and_nothing_is_stored_twice(
    behind: Any, weather: Any, small: Batch, two_days: Batch, what: str
) -> None:
    batch = small if what == "PUT data" else two_days
    weather.strike(what, "lose", times=1)
    receipt = behind.sink(attempts=3).load(batch)
    assert not receipt.already, "it was this load that stored it"
    assert behind.ids() == ids(batch)
    assert len(behind.uploads()) <= (what == "POST data begin"), "what was begun without an answer has no known id"


def test_a_load_without_an_answer_is_unknown_and_the_next_finds_out(behind: Any, weather: Any, small: Batch) -> None:
    weather.strike("PUT data", "lose")
    with pytest.raises(LoadUnknownError, match="the answer was lost"):
        behind.sink(attempts=1).load(small)
    weather.strike("", "pass")
    assert behind.sink().load(small).already
    assert behind.ids() == ids(small)


def test_an_answer_that_never_comes_is_unknown(behind: Any, weather: Any, small: Batch) -> None:
    over = threading.Event()

    def fate(seen: Any) -> str:
        if seen.what == "PUT data":
            over.wait(timeout=20)
        return "drop"

    weather.fate = lambda seen: fate(seen) if seen.what == "PUT data" else "pass"
    try:
        with pytest.raises(LoadUnknownError, match="try again later"):
            behind.sink(attempts=1, timeout_seconds=0.3).load(small)
    finally:
        over.set()


def test_a_strangers_object_under_our_key_is_refused_and_left_alone(place: Any, small: Batch, two_days: Batch) -> None:
    for batch in (small, two_days):
        key = f"{place.prefix}account_id={ACCOUNT_ID}/event_date={DAY}/{batch.batch_id}.parquet"
        place.client.put_object(Bucket=place.bucket, Key=key, Body=b"precious")
        with pytest.raises(SinkRefusedError, match="does not hold the events it should; move it away"):
            place.sink().load(batch)
        assert place.read(key) == b"precious"


@pytest.mark.parametrize("ignored", [frozenset(), frozenset({"if-match", "if-none-match"})])
def test_loads_of_one_batch_at_once_store_it_once(
    behind: Any, weather: Any, two_days: Batch, small: Batch, ignored: frozenset[str]
) -> None:
    weather.without_headers = ignored
    start = threading.Barrier(6)
    strange: list[BaseException] = []

    def load(batch: Batch) -> None:
        sink = behind.sink()
        start.wait(timeout=20)
        try:
            sink.load(batch)
        except SinkError as error:
            if "another run is loading" not in str(error):
                strange.append(error)
        finally:
            sink.close()

    threads = [threading.Thread(target=load, args=(batch,)) for batch in (two_days, small) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert strange == []
    for batch in (two_days, small):
        behind.sink().load(batch)
    assert behind.ids() == sorted([*ids(two_days), *ids(small)])


@pytest.mark.parametrize("kind", ["ignores", "refuses"])
def test_a_store_without_conditions_is_named_once_and_still_stores_once(
    behind: Any, weather: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    conditions = frozenset({"if-match", "if-none-match"})
    if kind == "ignores":
        weather.without_headers = conditions
    else:
        weather.fate = lambda seen: (501, "NotImplemented") if conditions & seen.headers.keys() else "pass"
    batches = [make_batch(tmp_path, rows=5, days=days, seed=days) for days in (1, 2, 3)]
    sink = behind.sink()
    with caplog.at_level(logging.WARNING):
        for batch in [*batches, *batches]:
            sink.load(batch)
    assert [record.getMessage() for record in caplog.records] == [
        "store ignores conditional writes; a batch that comes again replaces itself"
    ]
    assert "are ignored: a batch that comes again replaces itself" in sink.check()
    assert behind.ids() == sorted(one for batch in batches for one in ids(batch))


# -- after a crash ----------------------------------------------------------------------------------------------


def crashed(place: Any, proxy_to: Any, weather: Any, batch: Batch, what: str, skip: int = 0) -> None:
    """Load a batch with a process that ends, as far as the store can see, before a request of a kind."""
    seen_before = iter(range(skip))
    gone = threading.Event()

    def fate(seen: Any) -> str:
        if what in seen.what and next(seen_before, None) is None:
            gone.set()
        return "drop" if gone.is_set() else "pass"

    with proxy_to(place.url, weather(fate=fate)) as url:
        sink = place.through(url).sink(attempts=1)
        with pytest.raises(SinkError):
            sink.load(batch)
        sink.close()


def test_find_completes_what_was_begun(place: Any, proxy_to: Any, new_weather: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=30, days=3)
    crashed(place, proxy_to, new_weather, batch, "complete", skip=1)
    assert len(place.data_keys()) == 1
    found = place.sink().find(batch.batch_id, batch.window)
    assert found
    assert found.already
    assert found.rows == 30
    assert len(found.locations) == 3
    assert place.ids() == ids(batch)
    assert place.uploads() == []


def test_find_throws_away_what_nobody_can_see(place: Any, proxy_to: Any, new_weather: Any, two_days: Batch) -> None:
    crashed(place, proxy_to, new_weather, two_days, "complete")
    assert len(place.uploads()) == 2
    sink = place.sink()
    assert sink.find(two_days.batch_id, two_days.window) is None
    assert place.uploads() == []
    assert not sink.load(two_days).already
    assert place.ids() == ids(two_days)


def test_a_load_throws_away_the_uploads_of_an_earlier_attempt(
    place: Any, proxy_to: Any, new_weather: Any, two_days: Batch
) -> None:
    crashed(place, proxy_to, new_weather, two_days, "complete")
    assert not place.sink().load(two_days).already
    assert place.uploads() == []
    assert place.ids() == ids(two_days)


def half_stored(place: Any, proxy_to: Any, new_weather: Any, two_days: Batch) -> None:
    """Have the first day of a batch be there, and the upload of the second aborted."""
    crashed(place, proxy_to, new_weather, two_days, "complete", skip=1)
    (upload,) = place.client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)["Uploads"]
    place.client.abort_multipart_upload(Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def test_find_sees_what_another_run_completes_meanwhile(
    place: Any, proxy_to: Any, new_weather: Any, two_days: Batch
) -> None:
    half_stored(place, proxy_to, new_weather, two_days)
    looks = itertools.count()

    def complete(seen: Any) -> None:
        if seen.what == "HEAD data" and "2026-11-02" in seen.path and next(looks) == 1:
            place.sink().load(two_days)

    with proxy_to(place.url, new_weather(after=complete)) as url:
        found = place.through(url).sink().find(two_days.batch_id, two_days.window)
    assert next(looks) > 1
    assert (found.rows, found.already) == (two_days.rows, True)
    assert place.ids() == ids(two_days)


def test_find_will_not_guess_where_an_upload_was_aborted(
    place: Any, proxy_to: Any, new_weather: Any, two_days: Batch
) -> None:
    half_stored(place, proxy_to, new_weather, two_days)
    sink = place.sink()
    with pytest.raises(LoadUnknownError, match=r"event_date=2026-11-02.* is missing, and its upload was aborted"):
        sink.find(two_days.batch_id, two_days.window)
    assert not sink.load(two_days).already
    assert sink.find(two_days.batch_id, two_days.window) is not None
    assert place.ids() == ids(two_days)


def test_find_will_not_guess_where_a_note_was_altered(place: Any, small: Batch) -> None:
    sink = place.sink()
    sink.load(small)
    (note,) = (key for key in place.listed() if key.endswith(".json"))
    place.client.put_object(Bucket=place.bucket, Key=note, Body=b'{"pieces": 3}')
    with pytest.raises(LoadUnknownError, match="was altered since; restore it"):
        sink.find(small.batch_id, small.window)


def test_a_batch_begun_under_another_prefix_is_completed_there(
    place: Any, proxy_to: Any, new_weather: Any, two_days: Batch
) -> None:
    crashed(place, proxy_to, new_weather, two_days, "complete", skip=1)
    moved = place.sink(prefix=place.prefix + "{source}/")
    assert moved.load(two_days).rows == 30
    assert place.ids() == ids(two_days)
    assert not any("auditlogs" in key for key in place.data_keys())


def test_a_batch_begun_under_another_prefix_is_never_stored_under_both(
    place: Any, proxy_to: Any, new_weather: Any, two_days: Batch
) -> None:
    crashed(place, proxy_to, new_weather, two_days, "complete", skip=1)
    (upload,) = place.client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)["Uploads"]
    place.client.abort_multipart_upload(Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    with pytest.raises(SinkRefusedError, match="begun with another prefix"):
        place.sink(prefix=place.prefix + "{source}/").load(two_days)
    place.sink().load(two_days)
    assert place.ids() == ids(two_days)
