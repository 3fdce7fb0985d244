"""The settings -> the accounts to export."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from cfaudit_export.app.compose import Assembly, connected
from cfaudit_export.app.failover import candidates, choose
from cfaudit_export.errors import AccessError, AccountChoiceError, ProtocolError
from cfaudit_export.settings import ALL_ACCOUNTS

_LOG = logging.getLogger(__name__)


@contextmanager
def accounts_of(assembly: Assembly) -> Iterator[tuple[str, ...]]:
    """Yield the accounts to export; a single empty one leaves the choice to the source.

    As long as the context lasts, they share what can be shared, such as an open session. Where all accounts are
    wanted, the source is asked for them.

    Raises what `Source.connect` raises.
    """
    with assembly.shared.kept():
        named = assembly.settings.account
        yield _all_accounts(assembly) if named == ALL_ACCOUNTS else named or ("",)


def _all_accounts(assembly: Assembly) -> tuple[str, ...]:
    *preferred, last = candidates(assembly)
    for one in preferred:
        try:
            return _accounts_seen_by(one)
        except (AccessError, ProtocolError) as error:
            facts = {"source": one.source_name, "asked": last.source_name, "error": str(error)}
            _LOG.info("the preferred source does not list accounts", extra=facts)
    return _accounts_seen_by(last)


def _accounts_seen_by(assembly: Assembly) -> tuple[str, ...]:
    try:
        with connected(assembly, "") as (_, connection):
            return (connection.account_id if connection.accounts else "",)
    except AccountChoiceError as choice:
        if not choice.accounts:
            raise
        return tuple(account for account, _ in choice.accounts)


def accounts(assembly: Assembly) -> tuple[str, ...]:
    """Return the accounts that the settings name, else all that the credential can use.

    Raises:
        CfauditError: they have to be asked for, and that fails.
    """
    if not assembly.settings.account:
        assembly = replace(assembly, settings=replace(assembly.settings, account=ALL_ACCOUNTS))
    with accounts_of(assembly) as found:
        return tuple(account or _the_one(assembly) for account in found)


def _the_one(assembly: Assembly) -> str:
    with connected(choose(assembly, ""), "") as (_, connection):
        return connection.account_id
