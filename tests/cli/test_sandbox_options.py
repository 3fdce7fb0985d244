from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

from cfaudit_export.cli.sandbox_options import knob_parameters, sandbox_options
from cfaudit_sandbox import SandboxOptions

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_every_knob_is_an_option_with_help() -> None:
    parameters = {parameter.name: parameter for parameter in knob_parameters()}
    assert set(parameters) == {knob.name for knob in fields(SandboxOptions)}
    for parameter in parameters.values():
        [info] = parameter.annotation.__metadata__
        assert info.help


def test_what_is_not_given_stays_as_it_is() -> None:
    given = dict.fromkeys(("events", "seed", "poison"))
    assert sandbox_options(given, NOW) == SandboxOptions()


def test_values_of_every_kind_are_read() -> None:
    options = sandbox_options(
        {
            "events": "20",
            "span_seconds": "2d",
            "latency_seconds": "150ms",
            "throttle_seconds": "1.5",
            "end_at": "7d",
            "poison": ["null-actor=2", "all=3"],
            "twins": "0.5",
            "zod": "3",
            "modern": False,
            "tool_prefix": "portal_",
            "throttle_calls": "100",
            "cursor_kind": "offset",
        },
        NOW,
    )
    assert options == SandboxOptions(
        events=20,
        span_seconds=172_800.0,
        latency_seconds=0.15,
        throttle_seconds=1.5,
        end_at=datetime(2026, 11, 17, tzinfo=UTC),
        poison=("null-actor=2", "all=3"),
        twins=0.5,
        zod=3,
        modern=False,
        tool_prefix="portal_",
        throttle_calls=100,
        cursor_kind="offset",
    )
