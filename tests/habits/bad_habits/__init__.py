"""A server of bad habits: a truthful log behind faults that can be combined, at every layer.

    from bad_habits import habits, judge, judge_healed, machine, network, world

    truth = world(range(0, 3_000, 10), odd=[17])          # one event each 10 ms, the 18th is rejected
    with machine(truth, habits.strips_cursor(), page_size=50) as one:
        report = one.run()                                # the real pipeline, over real HTTP, in this process
        judge(one, report)                                # exit 0: nothing is missing; 65: it is in gaps; never 70
        judge_healed(one)                                 # without its habits: later runs end with everything once

`world(times)` is the truth and all that honest servers differ in: what `since` includes, cursors, how the end shows,
the cap of pages, protocol eras. A `Habit` acts at one layer: what is heard (`ask`), answered (`page`), said (`tool`),
sent (`http`), written (`wire`). `.at(first, times, every, during)` says when: `habit.at(3, 1)` is the fourth call only,
`during="opening"` means the requests that open a session. Habits are applied in the order given.

    machine(truth, network.closes("body").at(2, 1), source="codemode", page_size=10, concurrency=8)

`machine` has the URL as `one.server.url`, for tests that talk to a source or a session alone; `serving(world, *habits)`
is the server without a machine. `one.server.asked` holds what was asked, `one.server.calls` how often. Waiting takes no
time: `one.clock` passes when the program sleeps. `one.missing()` and `one.added()` compare with the truth.

Nothing here is shared with the sandbox of the package, so that none of its assumptions is made twice.
"""

from __future__ import annotations

from bad_habits import habits, network
from bad_habits.faults import Habit, When
from bad_habits.log import ACCOUNT, NOW, START_MS, Event, World, changed, world
from bad_habits.runs import Machine, judge, judge_healed, machine, most_calls
from bad_habits.server import BadServer, serving

__all__ = [
    "ACCOUNT",
    "NOW",
    "START_MS",
    "BadServer",
    "Event",
    "Habit",
    "Machine",
    "When",
    "World",
    "changed",
    "habits",
    "judge",
    "judge_healed",
    "machine",
    "most_calls",
    "network",
    "serving",
    "world",
]
