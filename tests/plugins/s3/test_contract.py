"""The sink and the store, held to their contracts on every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cfaudit_export import Batch, SinkError
from cfaudit_export.testing import CheckpointStoreContract, SinkContract, SinkTarget
from cfaudit_s3.store import S3Store

# The requests of a load of two days, with the one that finds out about conditions.
REQUESTS = range(10)
# Each is answered by something else than the store, by each of `pages`.
KINDS = ("PUT note", "PUT data part", "POST data begin", "POST data complete", "GET note", "HEAD data", "GET data")
CONDITIONS = frozenset({"if-match", "if-none-match"})


def cut_at(place: Any, proxy_to: Any, weather: Any, number: int) -> Callable[[Batch], None]:
    """Return a load of one attempt a request, of which one request gets no answer and no other gets through."""

    def fate(seen: Any) -> str:
        return "pass" if seen.number < number else "lose" if seen.number == number else "drop"

    def load(batch: Batch) -> None:
        with proxy_to(place.url, weather(fate=fate)) as url:
            sink = place.through(url).sink(attempts=1)
            with pytest.raises(SinkError):
                sink.load(batch)
            sink.close()

    return load


@pytest.fixture
def target_at(proxy_to: Any, new_weather: Any, impostors_of: Any) -> Callable[..., SinkTarget]:
    """Return what makes a target of a place, whose loads are cut at these requests, or answered by others."""

    def make(place: Any, requests: Iterable[int], kinds: Iterable[str] = (), *, every: bool = False) -> SinkTarget:
        cuts = tuple(cut_at(place, proxy_to, new_weather, number) for number in requests)
        impostors = impostors_of(place, kinds, lambda behind: behind.sink(attempts=1), every=every)
        return SinkTarget(place.sink, place.events, cuts, impostors, lambda name: place.read(f"{place.prefix}{name}"))

    return make


class TestSinkOnMoto(SinkContract):
    many = 3_000

    @pytest.fixture
    def target(self, place: Any, target_at: Any) -> SinkTarget:
        return target_at(place, REQUESTS, KINDS)


class TestSinkOnSeaweed(SinkContract):
    @pytest.fixture
    def target(self, place_at: Any, seaweed: str, target_at: Any) -> SinkTarget:
        return target_at(place_at(seaweed), REQUESTS)


@pytest.mark.soak
class TestSinkOnMotoBehindEveryImpostor(SinkContract):
    many = 10

    @pytest.fixture
    def target(self, place: Any, target_at: Any) -> SinkTarget:
        return target_at(place, (), KINDS, every=True)


class TestSinkOnAStoreThatIgnoresConditions(SinkContract):
    many = 3_000

    @pytest.fixture
    def target(self, weather: Any, behind: Any, target_at: Any) -> SinkTarget:
        weather.without_headers = CONDITIONS
        return target_at(behind, REQUESTS[3::2])


@pytest.mark.soak  # test_sink.py has the short form
class TestSinkOnAStoreThatRefusesConditions(SinkContract):
    many = 3_000

    @pytest.fixture
    def target(self, weather: Any, behind: Any, target_at: Any) -> SinkTarget:
        weather.fate = lambda seen: (501, "NotImplemented") if CONDITIONS & seen.headers.keys() else "pass"
        return target_at(behind, REQUESTS[3::2])


class TestStoreOnSeaweed(CheckpointStoreContract):
    @pytest.fixture
    def here(self, place_at: Any, seaweed: str) -> Any:
        return place_at(seaweed)

    @pytest.fixture
    def new_store(self, here: Any) -> Callable[[], S3Store]:
        return lambda: S3Store(here.store_config())

    @pytest.fixture
    def impostors(self, here: Any, impostors_of: Any) -> tuple[Callable[[], S3Store], ...]:
        """Stores behind a proxy that answers a kind of request itself, or everything."""
        kinds = ("", "GET state", "PUT state", "GET lease")
        made: tuple[Callable[[], S3Store], ...] = impostors_of(
            here, kinds, lambda behind: S3Store(behind.store_config(attempts=1)), every=False
        )
        return made


@pytest.mark.soak  # all other tests of the store are on moto
class TestStoreOnMoto(CheckpointStoreContract):
    @pytest.fixture
    def new_store(self, place: Any) -> Callable[[], S3Store]:
        return lambda: S3Store(place.store_config())
