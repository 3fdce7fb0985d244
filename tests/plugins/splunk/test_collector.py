"""Endpoints: several of them, down, encrypted; and what `check` proves."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SinkError, SinkRefusedError, read_batch
from cfaudit_export.testing import make_batch


def ids(batch: Any) -> list[str]:
    return sorted(read_batch(batch)["event_id"].to_pylist())


@pytest.fixture
def batch(tmp_path: Path) -> Any:
    return make_batch(tmp_path, rows=300)


class Down:
    """An endpoint where nothing listens."""

    def __init__(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{unused.getsockname()[1]}"


# -- several endpoints ----------------------------------------------------------------------------


def test_endpoints_take_turns(new_splunk: Any, new_sink: Any, batch: Any, ids_of: Any) -> None:
    servers = [new_splunk() for _ in range(3)]
    new_sink(*servers, max_events=10).load(batch)
    assert [len(server.collector.posted) for server in servers] == [10, 10, 10]
    assert sorted(ids_of(*servers)) == ids(batch)


def test_an_endpoint_that_is_down_is_left_out_at_once_and_tried_again_later(
    new_splunk: Any, new_sink: Any, batch: Any, ids_of: Any, time: Any
) -> None:
    server = new_splunk()
    new_sink(Down(), server, max_events=10).load(batch)
    assert sorted(ids_of(server)) == ids(batch)
    assert time.slept == []


def test_a_busy_endpoint_is_relieved_by_the_others_until_it_has_rested(
    new_splunk: Any, new_sink: Any, batch: Any, ids_of: Any, hec: Any, time: Any
) -> None:
    busy, free = new_splunk(), new_splunk()
    busy.collector.faults.append(hec.Fault(code=9, headers={"Retry-After": "20"}))
    new_sink(busy, free, max_events=10).load(batch)
    assert time.slept == []
    assert busy.collector.kept == []
    assert sorted(ids_of(free)) == ids(batch)
    time.now += 20
    new_sink(busy, free).load(make_batch(batch.path.parent, rows=10, seed=7))
    assert len(busy.collector.kept) == 10


def test_when_all_endpoints_are_down_it_ends_in_time_and_says_which(new_sink: Any, batch: Any, time: Any) -> None:
    endpoints = [Down(), Down()]
    with pytest.raises(SinkError, match=r"splunk at 'http://127.0.0.1:\d+' takes no events: ConnectError"):
        new_sink(*endpoints, retry_seconds=30).load(batch)
    assert 10 < sum(time.slept) <= 30


def test_each_endpoint_is_asked_for_its_own_acknowledgements(
    new_splunk: Any, new_sink: Any, batch: Any, ids_of: Any
) -> None:
    servers = [new_splunk() for _ in range(2)]
    for server in servers:
        server.collector.polls_until_indexed = 2
    new_sink(*servers, acks=True, max_events=30).load(batch)
    assert all(one.confirmed for server in servers for one in server.collector.posted)
    assert sorted(ids_of(*servers)) == ids(batch)


def test_what_an_endpoint_does_not_acknowledge_goes_to_the_others(
    new_splunk: Any, new_sink: Any, batch: Any, ids_of: Any
) -> None:
    deaf, well = new_splunk(), new_splunk()
    deaf.collector.polls_until_indexed = float("inf")
    sink = new_sink(deaf, well, acks=True, max_events=100)
    with pytest.raises(SinkError, match="did not acknowledge"):
        sink.load(batch)
    deaf.collector.polls_until_indexed = 0
    sink.load(batch)
    confirmed = [
        text for server in (deaf, well) for one in server.collector.posted if one.confirmed for text in one.kept
    ]
    assert len(confirmed) == 300


def test_cookies_keep_a_channel_with_its_indexer(splunk: Any, new_sink: Any, batch: Any, hec: Any) -> None:
    splunk.collector.faults.append(hec.Fault(keeps=True, code=0, headers={"Set-Cookie": "sticky=indexer7"}))
    new_sink(splunk, max_events=100).load(batch)
    assert [one.headers.get("Cookie") for one in splunk.collector.posted] == [None, *["sticky=indexer7"] * 2]


# -- encryption -----------------------------------------------------------------------------------


@pytest.fixture
def encrypted(new_splunk: Any, certificate: Path) -> Any:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return new_splunk(tls=tls)


def test_a_certificate_that_nobody_vouches_for_is_refused_without_trying_again(
    encrypted: Any, new_sink: Any, batch: Any, time: Any
) -> None:
    with pytest.raises(SinkRefusedError, match="name the one to trust in ca_file"):
        new_sink(encrypted).load(batch)
    assert time.slept == []
    assert encrypted.collector.posted == []


def test_a_certificate_that_is_named_is_trusted(
    encrypted: Any, new_sink: Any, batch: Any, ids_of: Any, certificate: Path
) -> None:
    new_sink(encrypted, ca_file=certificate).load(batch)
    assert sorted(ids_of(encrypted)) == ids(batch)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_said(
    encrypted: Any, new_sink: Any, batch: Any, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(SinkRefusedError, match="cannot read certificates from"):
        new_sink(encrypted, ca_file=path).load(batch)


# -- check ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["with", "without"])
def test_check_proves_the_token_without_an_event(splunk: Any, new_sink: Any, words: str) -> None:
    said = new_sink(splunk, acks=words == "with").check()
    assert said == f"the token works at '{splunk.url}', {words} acknowledgement; no event was sent"
    assert splunk.collector.posted == []


def test_check_proves_every_endpoint(new_splunk: Any, new_sink: Any) -> None:
    good, bad = new_splunk(), new_splunk()
    bad.collector.tokens.clear()
    with pytest.raises(SinkRefusedError, match=rf"'{bad.url}' refuses: 'Invalid token' \(code 4\)"):
        new_sink(good, bad).check()


def test_check_sees_a_token_that_is_switched_off(splunk: Any, new_sink: Any) -> None:
    splunk.collector.tokens["token-plain"].disabled = True
    with pytest.raises(SinkRefusedError, match=r"'Token disabled' \(code 1\); enable the token"):
        new_sink(splunk).check()


def test_check_sees_full_queues(splunk: Any, new_sink: Any) -> None:
    splunk.collector.unhealthy = 18
    with pytest.raises(SinkError, match=r"takes no events now: .*queues are full' \(code 18\)"):
        new_sink(splunk).check()


def test_check_sees_that_acknowledgement_is_demanded_and_off(splunk: Any, new_sink: Any) -> None:
    with pytest.raises(SinkRefusedError, match="ACK is disabled"):
        new_sink(splunk, ack="on").check()


def test_check_says_that_nobody_listens_and_does_not_wait(new_sink: Any, time: Any) -> None:
    with pytest.raises(SinkError, match="takes no events now: ConnectError"):
        new_sink(Down()).check()
    assert time.slept == []
