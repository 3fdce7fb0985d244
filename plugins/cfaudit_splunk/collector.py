"""Requests -> replies: the endpoints of one Splunk, taken in turns, each left alone for a while after it failed."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx2

from cfaudit_export import LoadUnknownError, SinkError, SinkRefusedError
from cfaudit_export.core.redaction import Redaction
from cfaudit_splunk.config import SplunkConfig
from cfaudit_splunk.events import Request
from cfaudit_splunk.replies import (
    NO_DATA,
    BadEvent,
    Busy,
    CollectorReply,
    Refused,
    Stopped,
    Taken,
    TooLarge,
    read_acks,
    read_reply,
)

_LOG = logging.getLogger(__name__)

_FIRST_REST_SECONDS = 0.5
_LONGEST_REST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Timing:
    """What time is made of, for tests to replace.

    Attributes:
        now: seconds that only ever grow.
        sleep: waits so many seconds.
        chance: a number from 0 to 1.
    """

    now: Callable[[], float]
    sleep: Callable[[float], None]
    chance: Callable[[], float]


@dataclass(slots=True, eq=False)
class Endpoint:
    """One place to send to.

    Attributes:
        base: its URL, without the collector's path.
        rest_until: until when to leave it alone.
        failures: how often in a row it was down, busy or nearly full.
        acknowledges: whether the token is known to acknowledge here.
    """

    base: str
    rest_until: float = field(default=0.0)
    failures: int = 0
    acknowledges: bool = False


class Collector:
    """Sends requests to whichever endpoint takes them."""

    def __init__(self, config: SplunkConfig, client: httpx2.Client, timing: Timing) -> None:
        self._config = config
        self._client = client
        self._redaction = Redaction()
        self._redaction.hide(client.headers["Authorization"])
        self._timing = timing
        self._endpoints = [Endpoint(base) for base in config.bases]

    def send(self, request: Request, channel: str) -> tuple[Endpoint, Taken | Stopped | BadEvent | TooLarge]:
        """Send events until an endpoint says what becomes of them; `channel` is where it counts acknowledgements.

        Raises:
            SinkError: no endpoint takes them in the time allowed, and certainly none has.
            LoadUnknownError: the same, but one may have.
            SinkRefusedError: an endpoint refuses for good.
        """
        deadline = None
        taken_perhaps = False
        while True:
            endpoint = self._rested()
            reply = self._require_acks(endpoint) or self._post(endpoint, "event", request.body, channel)
            if isinstance(reply, Refused):
                raise self._refusal(endpoint, reply)
            if not isinstance(reply, Busy):
                self._note(endpoint, reply)
                return endpoint, reply
            taken_perhaps |= reply.taken_perhaps
            deadline = deadline or self._timing.now() + self._config.retry_seconds
            self._rest(endpoint, reply.wait_seconds)
            if min(one.rest_until for one in self._endpoints) > deadline:
                raise self._given_up(endpoint, reply, taken_perhaps=taken_perhaps)
            self._log(endpoint, reply, request)

    def acknowledged(
        self, endpoint: Endpoint, ack_ids: Iterable[int], channel: str, *, anew: bool = False
    ) -> frozenset[int]:
        """Return which requests of a channel are acknowledged; none, too, when the endpoint cannot say so now.

        Args:
            endpoint: where they were sent.
            ack_ids: their numbers.
            channel: where they are counted.
            anew: whether to hang up afterwards, so that a balancer may choose another indexer the next time.

        Raises:
            SinkRefusedError: the endpoint refuses to say.
        """
        reply = self._ask(endpoint, ack_ids, channel, anew=anew)
        if isinstance(reply, Refused):
            raise self._refusal(endpoint, reply)
        if isinstance(reply, Busy):
            _LOG.info("acknowledgements unknown", extra={"url": endpoint.base, "error": reply.words})
            return frozenset()
        return reply

    def check(self) -> list[str]:
        """Prove for every endpoint that the token is good, without an event; return a line on each.

        A request without data is the one that cannot leave anything behind: the collector looks at the token first,
        and then says that there is no data. Health is asked for too, but alone it proves nothing: it is that of the
        queues, whatever the token.

        Raises what `send` raises.
        """
        return [self._checked(endpoint) for endpoint in self._endpoints]

    def _checked(self, endpoint: Endpoint) -> str:
        reply = self._post(endpoint, "event", b"")
        if isinstance(reply, Refused) and reply.code != NO_DATA:
            raise self._refusal(endpoint, reply)
        acks = self._ask(endpoint, [0])
        if self._config.ack == "on" and isinstance(acks, Refused):
            raise self._refusal(endpoint, acks)
        for answer in (reply, self._health(endpoint)):
            if isinstance(answer, Busy):
                raise SinkError(f"splunk at '{endpoint.base}' takes no events now: {answer.words}")
        waits = isinstance(acks, frozenset) and self._config.ack != "off"
        return f"the token works at '{endpoint.base}', {'with' if waits else 'without'} acknowledgement"

    def _require_acks(self, endpoint: Endpoint) -> Busy | Refused | None:
        """Return what stands in the way of sending where acknowledgement is demanded; None for nothing."""
        if self._config.ack != "on" or endpoint.acknowledges:
            return None
        reply = self._ask(endpoint, [0])
        if isinstance(reply, (Busy, Refused)):
            return reply
        endpoint.acknowledges = True
        return None

    # -- one exchange ---------------------------------------------------------------------------------

    def _post(self, endpoint: Endpoint, path: str, body: bytes, channel: str = "") -> CollectorReply:
        headers = {"X-Splunk-Request-Channel": channel} if channel else {}
        if self._config.gzip and body:
            headers["Content-Encoding"] = "gzip"
        reply = self._exchanged("POST", f"{endpoint.base}/services/collector/{path}", body, headers)
        if isinstance(reply, httpx2.Response):
            return read_reply(reply.status_code, reply.headers, self._content(reply))
        return reply

    def _ask(
        self, endpoint: Endpoint, ack_ids: Iterable[int], channel: str = "", *, anew: bool = False
    ) -> frozenset[int] | Busy | Refused:
        channel = channel or self._client.headers["X-Splunk-Request-Channel"]
        url = f"{endpoint.base}/services/collector/ack?channel={channel}"
        headers = {"X-Splunk-Request-Channel": channel} | ({"Connection": "close"} if anew else {})
        reply = self._exchanged("POST", url, json.dumps({"acks": list(ack_ids)}).encode(), headers)
        if isinstance(reply, httpx2.Response):
            return read_acks(reply.status_code, reply.headers, self._content(reply))
        return reply

    def _health(self, endpoint: Endpoint) -> Busy | None:
        reply = self._exchanged("GET", f"{endpoint.base}/services/collector/health", b"", {})
        if isinstance(reply, httpx2.Response):
            health = read_reply(reply.status_code, reply.headers, self._content(reply))
            return health if isinstance(health, Busy) else None
        return reply if isinstance(reply, Busy) else None

    def _exchanged(
        self, method: str, url: str, body: bytes, headers: dict[str, str]
    ) -> httpx2.Response | Busy | Refused:
        try:
            return self._client.request(method, url, content=body, headers=headers)
        except httpx2.RequestError as error:  # also of a reply that cannot be unpacked
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(_cause(error), ssl.SSLCertVerificationError):
                return Refused(f"{words}; its certificate is not trusted, name the one to trust in ca_file")
            never_sent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError))
            return Busy(words, taken_perhaps=not never_sent)

    def _content(self, reply: httpx2.Response) -> bytes:
        """Return the body without the token: what is said back goes into errors, reports and what is quarantined."""
        return self._redaction.reply(reply.content)

    # -- which endpoint, and when ---------------------------------------------------------------------

    def _rested(self) -> Endpoint:
        """Return the endpoint whose turn it is, when one is ready."""
        now = self._timing.now()
        endpoint = min(self._endpoints, key=lambda one: max(one.rest_until, now))
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)
        if endpoint.rest_until > now:
            self._timing.sleep(endpoint.rest_until - now)
        return endpoint

    def _note(self, endpoint: Endpoint, reply: Taken | Stopped | BadEvent | TooLarge) -> None:
        if isinstance(reply, Stopped):
            self._rest(endpoint, reply.wait_seconds)
        elif isinstance(reply, Taken) and reply.nearly_full:
            self._rest(endpoint, None)
        else:
            endpoint.failures = 0

    def _rest(self, endpoint: Endpoint, seconds: float | None) -> None:
        """Leave an endpoint alone, as long as it asks for, else longer each time."""
        if seconds is None:
            longest = min(_LONGEST_REST_SECONDS, _FIRST_REST_SECONDS * 2**endpoint.failures)
            seconds = longest * (1 + self._timing.chance()) / 2
        endpoint.failures += 1
        endpoint.rest_until = self._timing.now() + seconds

    # -- what is said about it ------------------------------------------------------------------------

    def _refusal(self, endpoint: Endpoint, reply: Refused) -> SinkRefusedError:
        index = f", index '{self._config.index}'," if self._config.index else ""
        return SinkRefusedError(f"splunk at '{endpoint.base}'{index} refuses: {reply.words}")

    def _given_up(self, endpoint: Endpoint, reply: Busy, *, taken_perhaps: bool) -> SinkError:
        text = (
            f"splunk at '{endpoint.base}' takes no events: {reply.words};"
            f" gave up after {self._config.retry_seconds:g} s, what is left stays staged"
        )
        return LoadUnknownError(text) if taken_perhaps else SinkError(text)

    def _log(self, endpoint: Endpoint, reply: Busy, request: Request) -> None:
        about = {"url": endpoint.base, "error": reply.words, "rows": len(request.rows)}
        if reply.taken_perhaps:
            _LOG.warning("request sent again, its events may be in splunk twice", extra=about)
        else:
            _LOG.info("request sent again", extra=about)


def _cause(error: BaseException) -> BaseException:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
