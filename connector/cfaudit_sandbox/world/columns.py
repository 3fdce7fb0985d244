"""Options, account and time span -> the columns of a generated log: about fifteen bytes per record."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

from cfaudit_sandbox.world.catalog import ACTIONS, IDENTITIES, OUTCOMES, RESOURCES, slots
from cfaudit_sandbox.world.options import SandboxOptions
from cfaudit_sandbox.world.poison import POISON_KINDS, poison_counts
from cfaudit_sandbox.world.text import SECOND_NS
from cfaudit_sandbox.world.timeline import EventTimes, coincide, share_instants, spread, vary_digits

_ODD_DIGITS = 0.01
_BURST_LEAST = 20


@dataclass(frozen=True, slots=True)
class Columns:
    """A generated log in columns.

    Attributes:
        times: instants in nanoseconds, ascending.
        digits: fractional digits of the time's text.
        action: number of the entry in `ACTIONS`; `identity`, `outcome` likewise.
        resource: number of the resource among those of its type.
        poison: per spoiled record the number of its flaw in `POISON_KINDS`.
        late: per late record the instant from which on it can be seen.
    """

    times: array[int]
    digits: bytearray
    action: bytes
    identity: bytes
    resource: bytes
    outcome: bytes
    poison: dict[int, int]
    late: dict[int, int]


def generate(options: SandboxOptions, since_ns: int, before_ns: int, stream: str) -> Columns:
    """Draw the columns of `options.events` records; `stream` tells one draw from another under the same seed."""
    count = options.events
    rng = random.Random(f"{options.seed}/{stream}")
    line = spread(rng, count, since_ns, before_ns)
    vary_digits(rng, line, _ODD_DIGITS)
    action = bytearray(_draw(rng, count, [entry.weight for entry in ACTIONS]))
    identity = bytearray(_draw(rng, count, [entry.weight for entry in IDENTITIES]))
    for start, stop in line.bursts:
        if stop - start >= _BURST_LEAST:
            # A burst is one machine that applies a plan.
            machine = identity[start : start + 1]
            identity[start:stop] = machine * (stop - start)
    share_instants(rng, line, options.ties)
    poison = _place_poison(rng, line, options)
    for start, stop in share_instants(rng, line, options.twins):
        action[start:stop] = action[start : start + 1] * (stop - start)
        identity[start:stop] = identity[start : start + 1] * (stop - start)
    return Columns(
        times=line.times,
        digits=line.digits,
        action=bytes(action),
        identity=bytes(identity),
        resource=rng.randbytes(count).translate(bytes(number % RESOURCES for number in range(256))),
        outcome=_draw(rng, count, [entry.weight for entry in OUTCOMES]),
        poison=poison,
        late=_delay(rng, line, options),
    )


def _draw(rng: random.Random, count: int, weights: list[int]) -> bytes:
    return rng.randbytes(count).translate(slots(weights))


def _place_poison(rng: random.Random, line: EventTimes, options: SandboxOptions) -> dict[int, int]:
    count = options.events
    kinds = [POISON_KINDS.index(kind) for kind, times in poison_counts(options).items() for _ in range(times)]
    rng.shuffle(kinds)
    if options.poison_placement == "adjacent":
        start = rng.randrange(count - len(kinds) + 1)
        places = list(range(start, start + len(kinds)))
    else:
        places = sorted(rng.sample(range(count), len(kinds)))
    if options.poison_placement == "tied":
        for place in places:
            coincide(line, max(place - 1, 0), min(place + 2, count))
    return dict(zip(places, kinds, strict=True))


def _delay(rng: random.Random, line: EventTimes, options: SandboxOptions) -> dict[int, int]:
    late = rng.sample(range(len(line.times)), round(options.late_fraction * len(line.times)))
    longest = options.late_max_seconds * SECOND_NS
    return {index: line.times[index] + int(rng.random() * longest) for index in late}
