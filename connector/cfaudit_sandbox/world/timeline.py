"""Seed and span -> sorted instants with the rhythm of working days, and the indices where it comes thick."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass
from itertools import pairwise

from cfaudit_sandbox.world.text import NO_SECONDS, SECOND_NS

MS_NS = 1_000_000
_DAY_MINUTES = 24 * 60
_MOST_BUCKETS = 50_000
# Relative activity per hour of the day (UTC), for people in one continent and machines everywhere.
_HOURS = (4, 3, 3, 3, 3, 4, 8, 22, 55, 90, 100, 92, 70, 88, 96, 90, 74, 48, 24, 14, 10, 8, 6, 5)
_WEEKEND = 0.15
_BURST_SHARE = 0.004
_BURST_FACTOR = 40.0
_UNIX_EPOCH_WEEKDAY = 3
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class EventTimes:
    """Sorted instants in nanoseconds, their printed digits, and index ranges in which one machine was at work."""

    times: array[int]
    digits: bytearray
    bursts: tuple[tuple[int, int], ...]


def spread(rng: random.Random, count: int, since_ns: int, before_ns: int) -> EventTimes:
    """Spread `count` instants over `[since, before)`, each at a whole millisecond."""
    since_ms = -(-since_ns // MS_NS)
    span_ms = max(before_ns // MS_NS - since_ms, 1)
    buckets = max(1, min(span_ms // 60_000, _MOST_BUCKETS))
    edges = [since_ms + span_ms * number // buckets for number in range(buckets + 1)]
    weights, busy = _weights(rng, edges)
    total, so_far, placed = sum(weights), 0.0, 0
    times: array[int] = array("q")
    bursts = []
    draw = rng.random
    for number, (low, high) in enumerate(pairwise(edges)):
        so_far += weights[number]
        until = round(so_far / total * count) if number + 1 < buckets else count
        width = high - low
        times.extend(sorted([(low + int(draw() * width)) * MS_NS for _ in range(until - placed)]))
        if number in busy and until > placed:
            bursts.append((placed, until))
        placed = until
    return EventTimes(times, bytearray(b"\3") * count, tuple(bursts))


def _weights(rng: random.Random, edges: list[int]) -> tuple[list[float], set[int]]:
    """Weigh every bucket by hour, weekday and chance; tell which ones hold a burst."""
    weights, busy = [], set()
    for number, edge in enumerate(edges[:-1]):
        minute = edge // 60_000
        day = (minute // _DAY_MINUTES + _UNIX_EPOCH_WEEKDAY) % 7
        weight = _HOURS[minute % _DAY_MINUTES // 60] * (0.5 + rng.random())
        if day >= _SATURDAY:
            weight *= _WEEKEND
        if rng.random() < _BURST_SHARE:
            weight *= _BURST_FACTOR
            busy.add(number)
        weights.append(weight)
    return weights, busy


def vary_digits(rng: random.Random, line: EventTimes, share: float) -> None:
    """Print `share` of the times with no, six or nine fractional digits, or without seconds, order kept.

    A coarser text moves its instant back, a finer one forward; where that would reach a neighbour the row is left
    alone.
    """
    times = line.times
    inner = range(1, len(times) - 1)
    for index in rng.sample(inner, round(share * len(inner))):
        digits = rng.choice((0, 0, 6, 6, 9, NO_SECONDS))
        if digits in (6, 9):
            step = 10 ** (9 - digits)
            moved = times[index] + rng.randrange(step, MS_NS, step)
        else:
            moved = times[index] - times[index] % (SECOND_NS if digits == 0 else 60 * SECOND_NS)
        if times[index - 1] < moved < times[index + 1]:
            times[index] = moved
            line.digits[index] = digits


def share_instants(rng: random.Random, line: EventTimes, share: float) -> list[tuple[int, int]]:
    """Give `share` of the rows the instant of a neighbour; tell the index ranges that now coincide."""
    count = len(line.times)
    groups = round(share * count / 2.5)
    if not groups or count <= 1:
        return []
    ranges = []
    for start in sorted(rng.sample(range(count - 1), min(groups, count - 1))):
        stop = min(start + rng.choice((2, 2, 2, 3, 4)), count)
        coincide(line, start, stop)
        ranges.append((start, stop))
    return ranges


def coincide(line: EventTimes, start: int, stop: int) -> None:
    """Move the rows `start + 1 .. stop - 1` back to the instant of row `start`."""
    for index in range(start + 1, stop):
        line.times[index] = line.times[start]
        line.digits[index] = line.digits[start]
