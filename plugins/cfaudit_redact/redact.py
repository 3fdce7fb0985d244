"""A table of events -> the same table without what the rules hide, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_redact.config import RedactConfig
from cfaudit_redact.documents import Documents, Scrubbing
from cfaudit_redact.keys import KeyRing, PeriodKey, load_keys
from cfaudit_redact.paths import PathRule, tree_of
from cfaudit_redact.rules import FIXED, KINDS, rules_of
from cfaudit_redact.scrub import EMAIL_SIGNS, REMOVED
from cfaudit_redact.values import Hider, cut_ip, encrypted, revealed

_PLAIN = KeyRing()
# For Arrow's regular expressions (RE2): at least what the patterns of `scrub` find.
_SUSPECT = {"email": r"@|%40|u0040", "secret": r"PRIVATE KEY|cf[ua]t_|v1\.0-|eyJ"}


class Redact:
    """The transform.

    Attributes:
        hides: columns of which `event_key` would give the value away.
        memo: which key counts when; a later run compares it.
    """

    def __init__(self, config: RedactConfig) -> None:
        """Read rules and keys.

        Raises:
            SettingsError: a rule fits no column, or the keys cannot be used.
        """
        self._config = config
        self._rules = rules_of(config)
        self._ring = load_keys(config.keys_file) if config.keys_file else _PLAIN
        self._needs_key = any(rule.action in ("pseudonym", "encrypt") for rule in self._rules)
        self._hider = Hider(config.email_domain)
        self._columns = {rule.column: rule for rule in reversed(self._rules) if not rule.path}  # the first counts
        self._documents = dict(self._trees())
        self._seen = 0
        scrubs_emails = "email" in config.rules("scrub")
        hidden = {rule.column for rule in self._rules if not rule.path} | ({"actor_email"} if scrubs_emails else set())
        self.hides = frozenset() if config.allow_guessable else frozenset(hidden)
        self.memo = self._ring.memo

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table without what is hidden.

        Raises:
            SettingsError: there is no key for the time of an event.
        """
        if not table.num_rows:
            return table
        self._seen += table.num_rows
        periods = self._periods(table)
        for name in table.column_names:
            if name in FIXED or not (column := table[name]).length() or column.null_count == len(column):
                continue
            done = self._redacted(name, column, periods)
            if done is not None:
                at = table.schema.get_field_index(name)
                table = table.set_column(at, table.schema.field(at), done)
        return table

    def resume(self, memo: str, until: datetime) -> None:
        """Compare with what an earlier run had; see `KeyRing.resume`."""
        self._ring.resume(memo, until)

    def notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what a person should know of all that was redacted so far."""
        if self._seen:
            for rule in self._rules:
                if rule.is_own and not rule.count:
                    yield "a rule matched nothing; is there a typo in it?", {"rule": rule.text, "count": 0}
        for name, documents in self._documents.items():
            if documents.dropped:
                yield "values that could not be read were dropped", {"column": name, "count": documents.dropped}

    def pseudonyms(self, text: str) -> Iterator[str]:
        """Yield the pseudonyms of a value, of each key and kind."""
        kind = "email" if "@" in text else "text"
        for key in self._ring.keys:
            for one in dict.fromkeys((kind, "id", "ip", "text")):
                if key.mark:
                    yield self._hider.pseudonym(key, one, text)

    def reveal(self, text: str) -> str:
        """Return a text with every encrypted value in it readable, of which the key is there."""
        return revealed(self._ring, text)

    # -- which key --------------------------------------------------------------------------------------

    def _periods(self, table: pa.Table) -> list[_Period]:
        """Return the keys that count in a table, each with its rows; all rows for one where no key is needed."""
        if not self._ring.keys:
            return [_Period(0, None, None)]
        times = table["event_time"].combine_chunks()
        numbers = pa.repeat(pa.scalar(0, pa.int64()), len(times))
        for moment in self._ring.moments:
            later = pc.greater_equal(times, pa.scalar(moment, times.type))
            numbers = pc.add(numbers, pc.cast(later, pa.int64()))
        different = pc.unique(numbers).to_pylist()
        found = []
        for number in different:
            rows = pc.equal(numbers, number) if len(different) > 1 else None
            first = times if rows is None else times.filter(rows)
            key = self._ring.key(number, first[0].as_py())
            found.append(_Period(key.id, key, rows))
        return found

    # -- a column ---------------------------------------------------------------------------------------

    def _redacted(self, name: str, column: pa.ChunkedArray, periods: list[_Period]) -> pa.Array | None:
        """Return a column without what is hidden in it; None where nothing is done with it."""
        rule, kind = self._columns.get(name), KINDS[name]
        if rule and rule.action == "drop":
            rule.count += len(column) - column.null_count
            return pa.nulls(len(column), column.type)
        if kind == "json":
            documents = self._documents.get(name)
            return None if documents is None else self._walked(column, periods, documents)
        if kind != "string" or (rule is None and not self._is_suspect(column)):
            return None
        return self._mapped(column, periods, self._text(rule))

    def _is_suspect(self, column: pa.ChunkedArray) -> bool:
        """Say whether anything in a column may have to be scrubbed."""
        pattern = "|".join(_SUSPECT[what] for what in self._config.rules("scrub"))
        return bool(pattern and pc.any(pc.match_substring_regex(column, pattern)).as_py())

    def _mapped(self, column: pa.ChunkedArray, periods: list[_Period], of_period: Callable[[_Period], Any]) -> pa.Array:
        """Return a column of texts that come again, each changed once for each key."""
        coded = column.combine_chunks().dictionary_encode()
        done: pa.Array | None = None
        for period in periods:
            change = of_period(period)
            values = [None if value is None else change(value) for value in coded.dictionary.to_pylist()]
            made = pa.array(values, pa.string()).take(coded.indices)
            done = made if done is None else pc.if_else(period.rows, made, done)
        return done

    def _walked(self, column: pa.ChunkedArray, periods: list[_Period], documents: Documents) -> pa.Array | None:
        """Return a column of JSON, in which few texts are alike; None where there is nothing to do in any."""
        whole = column.combine_chunks()
        rows = pc.is_valid(whole)
        if not documents.has_rules and "secret" not in self._config.rules("scrub"):
            rows = reduce(pc.or_, (pc.match_substring(whole, sign) for sign in EMAIL_SIGNS))
        for period in periods:
            mine = pc.fill_null(rows if period.rows is None else pc.and_(rows, period.rows), fill_value=False)
            if not pc.any(mine).as_py():
                continue
            apply, scrubbing = self._apply(period), self._scrubbing(period)
            texts = whole.filter(mine).to_pylist()
            made = [documents.hidden(text, apply, scrubbing, period.id) for text in texts]
            whole = pc.replace_with_mask(whole, mine, pa.array(made, pa.string()))
        return whole

    def _text(self, rule: PathRule | None) -> Callable[[_Period], Callable[[str], str | None]]:
        def of_period(period: _Period) -> Callable[[str], str | None]:
            if rule is None:
                return self._scrubbing(period).text
            apply = self._apply(period)

            def change(value: str) -> str | None:
                rule.count += 1
                return apply(rule, value)

            return change

        return of_period

    # -- a value ----------------------------------------------------------------------------------------

    def _apply(self, period: _Period) -> Callable[[PathRule, str], str | None]:
        hider, key = self._hider, period.key

        def apply(rule: PathRule, value: str) -> str | None:
            if rule.action == "cut_ip":
                return cut_ip(value)
            if not value or key is None:
                return value if not value else None
            if rule.action == "encrypt":
                return encrypted(key, rule.kind, value)
            return hider.pseudonym(key, rule.kind, value)

        return apply

    def _scrubbing(self, period: _Period) -> Scrubbing:
        hider, key, scrub = self._hider, period.key, self._config.rules("scrub")

        def hide(address: str) -> str:
            return REMOVED if key is None else hider.pseudonym(key, "email", address)

        return Scrubbing("email" in scrub, "secret" in scrub, hide)

    def _trees(self) -> Iterator[tuple[str, Documents]]:
        for name, kind in KINDS.items():
            mine = [rule for rule in self._rules if rule.column == name and rule.path]
            if kind != "json" or not (mine or self._config.rules("scrub")):
                continue
            kept = [rule for rule in mine if rule.action == "keep"]
            hiding = tree_of(rule for rule in mine if rule.action != "keep")
            yield name, Documents(hiding, tree_of(kept) if kept else None)


@dataclass(frozen=True, slots=True)
class _Period:
    """A key, and the rows of its time; all rows where they are None."""

    id: int
    key: PeriodKey | None
    rows: pa.Array | None
