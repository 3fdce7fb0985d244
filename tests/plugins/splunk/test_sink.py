"""The sink against stand-ins: what is taken, refused, repeated, acknowledged, and what it says about it."""

from __future__ import annotations

import json
import logging
import random
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cfaudit_export import LoadUnknownError, SinkError, SinkRefusedError, read_batch
from cfaudit_export.testing import make_batch

MAX_BYTES = 60_000  # of a request; a batch of 500 events is about seven


def ids(batch: Any) -> list[str]:
    return read_batch(batch)["event_id"].to_pylist()


@pytest.fixture
def batch(tmp_path: Path) -> Any:
    return make_batch(tmp_path, rows=500)


# -- requests -------------------------------------------------------------------------------------


def test_a_load_is_one_channel_a_token_and_gzip(splunk: Any, new_sink: Any, batch: Any) -> None:
    receipt = new_sink(splunk, max_bytes=MAX_BYTES).load(batch)
    posted = splunk.collector.posted
    assert len(posted) > 5
    assert len({one.channel for one in posted}) == 1
    assert uuid.UUID(posted[0].channel)
    assert {one.headers["Content-Encoding"] for one in posted} == {"gzip"}
    assert all(one.bytes <= MAX_BYTES for one in posted)
    assert (receipt.rows, receipt.locations, receipt.already) == (500, (splunk.url,), False)


def test_each_run_has_a_channel_of_its_own(splunk: Any, new_sink: Any, tmp_path: Path) -> None:
    for seed in (1, 2):
        new_sink(splunk).load(make_batch(tmp_path, rows=5, seed=seed))
    assert len({one.channel for one in splunk.collector.posted}) == 2


def test_gzip_can_be_switched_off(splunk: Any, new_sink: Any, batch: Any, ids_of: Any) -> None:
    new_sink(splunk, gzip=False).load(batch)
    assert "Content-Encoding" not in splunk.collector.posted[0].headers
    assert ids_of(splunk) == ids(batch)


def test_index_and_time_arrive(splunk: Any, new_sink: Any, batch: Any) -> None:
    splunk.collector.tokens["token-plain"].indexes = ("main", "audit")
    new_sink(splunk, index="audit").load(batch)
    first = json.loads(splunk.collector.kept[0])
    assert (first["index"], first["sourcetype"]) == ("audit", "cloudflare:audit")
    assert abs(first["time"] - read_batch(batch)["event_time"][0].as_py().timestamp()) < 1e-6


# -- what passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [9, 18, 19, 20, 23, 26, 27])
def test_a_busy_splunk_is_asked_again_and_nothing_is_there_twice(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any, time: Any, code: int
) -> None:
    splunk.collector.faults.extend(hec.Fault(code=code) for _ in range(3))
    new_sink(splunk, max_bytes=MAX_BYTES).load(batch)
    assert ids_of(splunk) == ids(batch)
    assert time.slept == [0.5, 1.0, 2.0]


def test_retry_after_is_honoured(splunk: Any, new_sink: Any, batch: Any, hec: Any, time: Any) -> None:
    splunk.collector.faults.append(hec.Fault(status=503, headers={"Retry-After": "17"}))
    new_sink(splunk).load(batch)
    assert time.slept == [17.0]


@pytest.mark.parametrize("code", [24, 25])
def test_a_splunk_that_is_nearly_full_is_given_time(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any, time: Any, code: int
) -> None:
    splunk.collector.faults.extend(hec.Fault(code=code, keeps=True) for _ in range(3))
    new_sink(splunk, max_bytes=MAX_BYTES).load(batch)
    assert ids_of(splunk) == ids(batch)
    assert time.slept == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("lost", ["answer", "request", "status"])
def test_without_a_clear_answer_only_that_request_is_sent_again(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any, caplog: Any, lost: str
) -> None:
    fault = {
        "answer": hec.Fault(keeps=True, hangs_up=True),
        "request": hec.Fault(hangs_up=True),
        "status": hec.Fault(keeps=True, code=8),
    }[lost]
    splunk.collector.faults.extend([hec.Fault(keeps=True), fault])
    with caplog.at_level(logging.WARNING):
        new_sink(splunk, max_bytes=MAX_BYTES).load(batch)
    assert set(ids_of(splunk)) == set(ids(batch))
    twice = {event for event, count in Counter(ids_of(splunk)).items() if count > 1}
    second = {json.loads(text)["fields"]["event_id"] for text in splunk.collector.posted[1].kept}
    assert twice == (set() if lost == "request" else second)
    assert "its events may be in splunk twice" in caplog.text


def test_an_answer_that_never_comes_is_waited_for_only_so_long(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any
) -> None:
    import threading

    released = threading.Event()
    splunk.collector.faults.append(hec.Fault(keeps=True, holds=released))
    with pytest.raises(SinkError, match="gave up after 0 s"):
        new_sink(splunk, timeout_seconds=0.2, retry_seconds=0).load(batch)
    released.set()
    new_sink(splunk).load(batch)
    assert set(ids_of(splunk)) == set(ids(batch))


@pytest.mark.parametrize("error", [SinkError, LoadUnknownError])
def test_a_splunk_that_stays_down_is_given_up_in_time(
    splunk: Any,
    new_sink: Any,
    batch: Any,
    hec: Any,
    time: Any,
    error: type[Exception],
) -> None:
    fault = hec.Fault(code=9) if error is SinkError else hec.Fault(code=8, keeps=True)
    splunk.collector.faults.extend([fault] * 100)
    with pytest.raises(SinkError, match=r"gave up after 60 s, what is left stays staged") as given_up:
        new_sink(splunk, retry_seconds=60).load(batch)
    assert type(given_up.value) is error
    assert 30 < sum(time.slept) <= 60


def test_nothing_is_waited_for_that_comes_too_late(splunk: Any, new_sink: Any, batch: Any, hec: Any, time: Any) -> None:
    splunk.collector.faults.append(hec.Fault(status=503, headers={"Retry-After": "3600"}))
    with pytest.raises(SinkError):
        new_sink(splunk).load(batch)
    assert time.slept == []


def test_the_next_load_sends_only_what_the_first_could_not(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any
) -> None:
    splunk.collector.faults.extend([hec.Fault(keeps=True), hec.Fault(keeps=True), hec.Fault(code=9)])
    with pytest.raises(SinkError):
        new_sink(splunk, max_bytes=MAX_BYTES, retry_seconds=0).load(batch)
    first = ids_of(splunk)
    assert 0 < len(first) < 500
    receipt = new_sink(splunk, max_bytes=MAX_BYTES // 3).load(batch)  # settings may change meanwhile
    assert ids_of(splunk) == ids(batch)
    assert (receipt.rows, receipt.already) == (500, False)


# -- what does not --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 7, 10, 11, 14, 16, 28])
def test_what_somebody_must_change_is_refused_at_once_in_splunks_words(
    splunk: Any, new_sink: Any, batch: Any, hec: Any, time: Any, code: int
) -> None:
    splunk.collector.faults.append(hec.Fault(code=code))
    with pytest.raises(SinkRefusedError) as refusal:
        new_sink(splunk).load(batch)
    assert f"'{hec.TEXTS[code][1]}' (code {code})" in str(refusal.value)
    assert splunk.url in str(refusal.value)
    assert time.slept == []
    assert "token-plain" not in str(refusal.value)


def test_an_index_that_is_not_allowed_is_named(splunk: Any, new_sink: Any, batch: Any) -> None:
    with pytest.raises(SinkRefusedError, match=r"index 'nope', refuses: 'Incorrect index' \(code 7\); let the token"):
        new_sink(splunk, index="nope").load(batch)
    assert splunk.collector.kept == []


def test_a_redirection_is_not_followed_with_the_token(
    splunk: Any, new_splunk: Any, new_sink: Any, batch: Any, hec: Any
) -> None:
    other = new_splunk()
    splunk.collector.faults.append(hec.Fault(status=307, headers={"Location": f"{other.url}/services/collector/event"}))
    with pytest.raises(SinkRefusedError, match="HTTP 307"):
        new_sink(splunk).load(batch)
    assert other.collector.posted == []


def test_a_missing_token_is_said_before_anything_is_sent(
    splunk: Any, new_sink: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = new_sink(splunk)
    monkeypatch.delenv("SPLUNK_HEC_TOKEN")
    with pytest.raises(SinkRefusedError, match="variable SPLUNK_HEC_TOKEN"):
        sink.load(batch)


def test_the_token_can_be_in_a_file(splunk: Any, new_sink: Any, batch: Any, tmp_path: Path, ids_of: Any) -> None:
    path = tmp_path / "token"
    path.write_text("token-acks\n")
    new_sink(splunk, token_file=path).load(batch)
    assert ids_of(splunk) == ids(batch)
    assert splunk.collector.posted[0].token == "token-acks"


@pytest.mark.parametrize("content", [b"", b"two words", b"line\nbreak", "tökén".encode(), b"\xff"])
def test_a_token_that_is_none_is_refused_and_not_shown(
    splunk: Any, new_sink: Any, batch: Any, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(SinkRefusedError, match="token") as refusal:
        new_sink(splunk, token_file=path).load(batch)
    for part in content.decode("latin-1").split():
        assert part not in str(refusal.value)


# -- events that splunk refuses -------------------------------------------------------------------


def bad_batch(tmp_path: Path, rows: int, bad: set[int]) -> Any:
    raws = ['{"broken":' if row in bad else "{}" for row in range(rows)]
    return make_batch(tmp_path, rows=rows, changes={"event_raw": raws})


@pytest.mark.parametrize("token", ["plain", "acks"])
@pytest.mark.parametrize("bad", [{0}, {499}, {3, 4, 5}, {0, 250, 499}, set(range(100, 160)), set(range(0, 500, 7))])
def test_bad_events_are_quarantined_and_all_others_are_there_once(
    splunk: Any,
    new_sink: Any,
    tmp_path: Path,
    ids_of: Any,
    bad: set[int],
    token: str,
) -> None:
    batch = bad_batch(tmp_path, 500, bad)
    receipt = new_sink(splunk, acks=token == "acks", max_bytes=MAX_BYTES).load(batch)
    all_ids = ids(batch)
    assert [one.event_id for one in receipt.rejected] == [all_ids[row] for row in sorted(bad)]
    assert {one.reason for one in receipt.rejected} == {"'Invalid data format' (code 6)"}
    assert sorted(ids_of(splunk)) == sorted(event for row, event in enumerate(all_ids) if row not in bad)
    assert receipt.rows == 500 - len(bad)
    again = new_sink(splunk, acks=token == "acks").load(batch)
    assert again.already
    assert (again.rows, again.rejected) == (receipt.rows, receipt.rejected)


def test_a_batch_of_one_bad_event_is_done_with(splunk: Any, new_sink: Any, tmp_path: Path) -> None:
    batch = replace(bad_batch(tmp_path, 1, {0}), taken_before=True)
    receipt = new_sink(splunk).load(batch)
    assert (receipt.rows, len(receipt.rejected)) == (0, 1)


@pytest.mark.parametrize("rows", [1, 5, 19])
def test_where_none_was_ever_taken_a_few_refused_events_are_not_to_blame_either(
    splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any, rows: int
) -> None:
    """As behind a gateway that breaks every body; a process that starts anew does not learn otherwise."""
    batch = make_batch(tmp_path, rows=rows)
    splunk.collector.cloud_bytes = 10
    for _ in range(2):
        with pytest.raises(SinkRefusedError, match="refuses every event it is given: .*; none was quarantined"):
            new_sink(splunk).load(batch)
    splunk.collector.cloud_bytes = 1_000_000
    assert new_sink(splunk).load(batch).rejected == ()
    assert ids_of(splunk) == ids(batch)


def test_where_every_event_is_refused_it_is_not_the_events(
    splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any
) -> None:
    batch = make_batch(tmp_path, rows=500)
    splunk.collector.cloud_bytes = 10  # calls everything malformed
    with pytest.raises(SinkRefusedError, match="refuses every event it is given: 'Invalid data format'"):
        new_sink(splunk).load(batch)
    splunk.collector.cloud_bytes = 1_000_000
    receipt = new_sink(splunk).load(batch)
    assert receipt.rejected == ()
    assert ids_of(splunk) == ids(batch)


def test_events_that_were_refused_before_are_refused_again_one_by_one(
    splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any
) -> None:
    batch = replace(bad_batch(tmp_path, 60, set(range(59))), refused_before=True)
    receipt = new_sink(splunk).load(batch)
    assert [one.event_id for one in receipt.rejected] == ids(batch)[:59]
    assert ids_of(splunk) == ids(batch)[59:]


def test_events_that_wait_for_acknowledgement_show_that_not_all_are_refused(
    splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any
) -> None:
    batch = bad_batch(tmp_path, 60, set(range(1, 60)))
    splunk.collector.polls_until_indexed = 3
    receipt = new_sink(splunk, acks=True, max_events=1).load(batch)
    assert (receipt.rows, len(receipt.rejected)) == (1, 59)
    assert ids_of(splunk) == ids(batch)[:1]


@pytest.mark.parametrize("code", [6, 12, 13, 15])
def test_a_collector_that_does_not_say_which_event_is_bad_is_asked_for_less(
    splunk: Any, new_sink: Any, batch: Any, hec: Any, ids_of: Any, code: int
) -> None:
    splunk.collector.faults.extend([hec.Fault(code=code), hec.Fault(code=code, members={"invalid-event-number": 5000})])
    receipt = new_sink(splunk).load(batch)
    assert receipt.rejected == ()
    assert sorted(ids_of(splunk)) == sorted(ids(batch))


@pytest.mark.parametrize("limit", ["most_bytes", "cloud_bytes"])
def test_requests_too_large_for_what_is_in_between_are_made_smaller(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, limit: str
) -> None:
    setattr(splunk.collector, limit, 50_000)
    receipt = new_sink(splunk).load(batch)
    assert receipt.rejected == ()
    assert sorted(ids_of(splunk)) == sorted(ids(batch))


@pytest.mark.parametrize("limit", ["most_bytes", "cloud_bytes"])
def test_an_event_too_large_for_splunk_is_quarantined(
    splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any, limit: str
) -> None:
    texts = ["x" * (100_000 if row == 7 else 10) for row in range(20)]
    batch = make_batch(tmp_path, rows=20, changes={"action_description": texts})
    setattr(splunk.collector, limit, 50_000)
    receipt = new_sink(splunk, max_bytes=50_000).load(batch)
    assert [one.event_id for one in receipt.rejected] == [ids(batch)[7]]
    assert sorted(ids_of(splunk)) == sorted(set(ids(batch)) - {ids(batch)[7]})


def test_an_event_beyond_our_own_limit_goes_alone(splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any) -> None:
    texts = ["x" * (100_000 if row == 7 else 10) for row in range(20)]
    batch = make_batch(tmp_path, rows=20, changes={"action_description": texts})
    new_sink(splunk, max_bytes=50_000).load(batch)
    assert ids_of(splunk) == ids(batch)
    assert sorted(one.bytes > 50_000 for one in splunk.collector.posted) == [False, False, True]


# -- acknowledgement ------------------------------------------------------------------------------


def test_a_load_ends_when_everything_is_acknowledged(splunk: Any, new_sink: Any, batch: Any, time: Any) -> None:
    splunk.collector.polls_until_indexed = 4
    new_sink(splunk, acks=True, max_bytes=MAX_BYTES).load(batch)
    assert all(one.confirmed for one in splunk.collector.posted)
    assert time.slept == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_questions_are_no_further_apart_than_the_settings_say(
    splunk: Any, new_sink: Any, batch: Any, time: Any
) -> None:
    splunk.collector.polls_until_indexed = 8
    new_sink(splunk, acks=True, ack_poll_seconds=3.0).load(batch)
    assert time.slept == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]


def test_a_true_is_never_asked_for_twice(splunk: Any, new_sink: Any, batch: Any) -> None:
    splunk.collector.polls_until_indexed = 1
    new_sink(splunk, acks=True, max_bytes=MAX_BYTES).load(batch)
    asked = [ack_id for poll in splunk.collector.polls for ack_id in poll]
    assert max(Counter(asked).values()) == 2


def test_requests_that_wait_are_bounded(splunk: Any, new_sink: Any, batch: Any, ids_of: Any, time: Any) -> None:
    splunk.collector.polls_until_indexed = 2
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, sum(not one.confirmed for one in splunk.collector.posted))

    time.on_sleep = watch
    new_sink(splunk, acks=True, max_events=5).load(batch)
    assert 30 < most <= 33
    assert ids_of(splunk) == ids(batch)


def test_only_what_is_not_acknowledged_in_time_is_sent_again(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, time: Any, caplog: Any
) -> None:
    sink = new_sink(splunk, acks=True, max_bytes=MAX_BYTES)

    def lose() -> None:
        for channel in splunk.collector._channels.values():
            channel.pop(2, None)

    time.on_sleep = lose
    with caplog.at_level(logging.WARNING):
        sink.load(batch)
    third = {json.loads(text)["fields"]["event_id"] for text in splunk.collector.posted[2].kept}
    assert {event for event, count in Counter(ids_of(splunk)).items() if count > 1} == third
    assert set(ids_of(splunk)) == set(ids(batch))
    assert 300 <= sum(time.slept) <= 330
    assert "events not acknowledged" in caplog.text


def test_a_splunk_that_never_acknowledges_is_given_up_in_time(
    splunk: Any, new_sink: Any, batch: Any, time: Any
) -> None:
    splunk.collector.polls_until_indexed = float("inf")
    with pytest.raises(LoadUnknownError, match="took 500 events but did not acknowledge them"):
        new_sink(splunk, acks=True, ack_timeout_seconds=60).load(batch)
    assert 120 <= sum(time.slept) <= 150


def test_a_restarted_splunk_that_counts_anew_is_not_believed_about_the_old(
    splunk: Any, new_sink: Any, tmp_path: Path, ids_of: Any, time: Any
) -> None:
    batch = make_batch(tmp_path, rows=300)
    sink = new_sink(splunk, acks=True, max_events=5)
    splunk.collector.polls_until_indexed = float("inf")
    lost: list[str] = []

    def restart() -> None:
        if not lost:
            lost.extend(ids_of(splunk))
            for one in splunk.collector.posted:
                one.kept.clear()
            splunk.collector.restart()
            splunk.collector.polls_until_indexed = 0

    time.on_sleep = restart
    sink.load(batch)
    assert len(lost) > 100
    assert set(ids_of(splunk)) == set(ids(batch))
    assert len(ids_of(splunk)) <= 300 + 5, "one request may have come from another indexer, and is sent again"


# -- several indexers behind a balancer that is not sticky -------------------------------------------------------


@pytest.fixture
def scattered(new_splunk: Any, hec: Any) -> tuple[Any, list[Any]]:
    """A balancer that sends each request wherever it likes, and the two indexers behind it."""
    indexers = [hec.Collector(), hec.Collector()]
    chance = random.Random(7)
    return new_splunk(choose=lambda: chance.choice(indexers)), indexers


def test_an_acknowledgement_of_one_indexer_is_not_taken_for_that_of_another(
    scattered: Any, new_sink: Any, tmp_path: Path, time: Any
) -> None:
    """Both count from 0. What the second has taken is lost with it before it was indexed."""
    server, indexers = scattered
    batch = make_batch(tmp_path, rows=40)
    indexers[1].polls_until_indexed = float("inf")

    def crash() -> None:
        if indexers[1].polls_until_indexed:
            indexers[1].polls_until_indexed = 0
            indexers[1].restart()
            for one in indexers[1].posted:
                one.kept.clear()

    time.on_sleep = crash
    receipt = new_sink(server, acks=True, max_events=5).load(batch)
    assert (receipt.rows, receipt.rejected) == (40, ())
    kept = [json.loads(text)["fields"]["event_id"] for one in indexers for text in one.kept]
    assert set(kept) == set(ids(batch))


def test_two_indexers_get_little_twice(scattered: Any, new_sink: Any, tmp_path: Path, time: Any) -> None:
    server, indexers = scattered
    batch = make_batch(tmp_path, rows=100)
    assert new_sink(server, acks=True, max_events=5).load(batch).rows == 100
    kept = [json.loads(text)["fields"]["event_id"] for one in indexers for text in one.kept]
    assert set(kept) == set(ids(batch))
    assert len(kept) <= 100 + 2 * 5
    assert all(one.posted for one in indexers)


@pytest.mark.parametrize("token", ["plain", "acks"])
@pytest.mark.parametrize("code", [9, 23, 26])
def test_what_was_taken_before_a_collector_stopped_is_not_sent_again(
    splunk: Any, new_sink: Any, hec: Any, tmp_path: Path, ids_of: Any, code: int, token: str
) -> None:
    batch = make_batch(tmp_path, rows=20)
    splunk.collector.faults.append(hec.Fault(code=code, keeps=7, members={"invalid-event-number": 7}))
    receipt = new_sink(splunk, acks=token == "acks").load(batch)
    assert (receipt.rows, receipt.rejected) == (20, ())
    assert ids_of(splunk) == ids(batch)


def test_a_reply_that_drips_does_not_hold_a_load(dripping: str, new_sink: Any, tmp_path: Path) -> None:
    with pytest.raises(LoadUnknownError, match="takes no events"):
        new_sink(SimpleNamespace(url=dripping), timeout_seconds=0.3, retry_seconds=0).load(make_batch(tmp_path, rows=2))


@pytest.mark.parametrize("fault", [{"code": 9}, {"code": 27}, {"status": 502}, {"hangs_up": True}])
def test_no_word_about_acknowledgements_is_not_a_no(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any, fault: dict[str, Any]
) -> None:
    splunk.collector.ack_faults.extend(hec.Fault(**fault) for _ in range(3))
    new_sink(splunk, acks=True).load(batch)
    assert ids_of(splunk) == ids(batch)
    assert len(splunk.collector.ack_faults) == 0


def test_an_acknowledgement_lost_on_its_way_costs_that_request_twice(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any
) -> None:
    splunk.collector.ack_faults.append(hec.Fault(keeps=True, hangs_up=True))
    new_sink(splunk, acks=True).load(batch)
    assert Counter(Counter(ids_of(splunk)).values()) == {2: 500}


def test_what_is_acknowledged_when_a_load_gives_up_is_not_sent_again(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any
) -> None:
    splunk.collector.faults.extend([hec.Fault(keeps=True)] * 3 + [hec.Fault(code=9)])
    with pytest.raises(SinkError, match="Server is busy"):
        new_sink(splunk, acks=True, max_bytes=MAX_BYTES, retry_seconds=0).load(batch)
    new_sink(splunk, acks=True).load(batch)
    assert ids_of(splunk) == ids(batch)


def test_acknowledgement_demanded_of_a_token_without_it_is_refused_before_an_event_is_sent(
    splunk: Any, new_sink: Any, batch: Any
) -> None:
    with pytest.raises(SinkRefusedError, match=r"'ACK is disabled' \(code 14\); turn on indexer acknowledgement"):
        new_sink(splunk, ack="on").load(batch)
    assert splunk.collector.posted == []


def test_acknowledgement_demanded_of_a_token_that_has_it_is_waited_for(
    splunk: Any, new_sink: Any, batch: Any, ids_of: Any
) -> None:
    new_sink(splunk, acks=True, ack="on").load(batch)
    assert all(one.confirmed for one in splunk.collector.posted)
    assert ids_of(splunk) == ids(batch)


def test_acknowledgement_can_be_done_without(splunk: Any, new_sink: Any, batch: Any, time: Any) -> None:
    splunk.collector.polls_until_indexed = float("inf")
    new_sink(splunk, acks=True, ack="off").load(batch)
    assert splunk.collector.polls == []
    assert time.slept == []


def test_acknowledgement_switched_off_meanwhile_is_said(splunk: Any, new_sink: Any, batch: Any, hec: Any) -> None:
    splunk.collector.ack_faults.append(hec.Fault(code=14))
    with pytest.raises(SinkRefusedError, match="ACK is disabled"):
        new_sink(splunk, acks=True).load(batch)


# -- find -----------------------------------------------------------------------------------------


def test_find_does_not_guess(splunk: Any, new_sink: Any, batch: Any) -> None:
    with pytest.raises(LoadUnknownError, match=rf"'{batch.batch_id}' is lost.*resend_lost = true"):
        new_sink(splunk).find(batch.batch_id, batch.window)


def test_find_says_none_where_twice_is_better_than_a_stop(splunk: Any, new_sink: Any, batch: Any) -> None:
    assert new_sink(splunk, resend_lost=True).find(batch.batch_id, batch.window) is None
