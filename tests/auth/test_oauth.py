from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import anyio
import httpx2
import pytest

from cfaudit_export.auth.endpoint import TokenEndpoint
from cfaudit_export.auth.grants import dead_because, grant_days_left
from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.errors import AccessError, ExitCode, ProtocolError, SourceUnavailableError, TryAgainError
from cfaudit_export.plugin.records import Credential
from cfaudit_sandbox.oauth.dash import OAuthKnobs

if TYPE_CHECKING:
    from tests.core.auth.conftest import Script, Scripted, Service


def token(credential: OAuthCredential) -> str:
    return asyncio.run(credential.token())


def renew(credential: OAuthCredential, refused: str) -> bool:
    return asyncio.run(credential.renew(refused))


def call(service: Service, bearer: str) -> tuple[int, str]:
    """Call the tool once; return the status and the text."""
    window = {"since": "2026-11-01", "before": "2026-11-02", "limit": 1}
    params = {"name": "auditlogs_by_account_id", "arguments": window}
    reply = httpx2.post(
        service.url,
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        headers={"Authorization": f"Bearer {bearer}", "Accept": "application/json, text/event-stream"},
        trust_env=False,
    )
    return reply.status_code, reply.text


def test_it_is_a_credential_of_the_kind_oauth(service: Service) -> None:
    credential: Credential = service.credential()
    assert credential.kind == "oauth"


def test_a_token_that_is_good_costs_no_request(service: Service) -> None:
    grant = service.sign_in()
    assert [token(service.credential()), token(service.credential())] == [grant.access_token] * 2
    assert service.oauth.refreshes == 0


def test_a_token_is_renewed_five_minutes_before_its_end(service: Service) -> None:
    first = service.sign_in().access_token
    credential = service.credential()
    service.clock.advance(minutes=54, seconds=59)
    assert token(credential) == first
    service.clock.advance(seconds=1)
    second = token(credential)
    assert second != first
    assert call(service, second)[0] == 200
    assert service.kept().expires_at == service.clock.now() + timedelta(hours=16)


def test_a_short_life_is_used_for_its_first_four_fifths(service: Service) -> None:
    service.oauth.turn(OAuthKnobs(dash_expires_in=120))
    service.sign_in()
    service.clock.advance(minutes=56)
    credential = service.credential()
    first = token(credential)
    service.clock.advance(seconds=95)
    assert token(credential) == first
    service.clock.advance(seconds=1)
    assert token(credential) != first


def test_a_refused_token_is_renewed(service: Service) -> None:
    first = service.sign_in().access_token
    credential = service.credential()
    assert renew(credential, first)
    assert token(credential) != first
    assert call(service, token(credential))[0] == 200


def test_the_refresh_names_the_client_and_the_resource(server: Scripted, service: Service) -> None:
    service.store.add(replace(service.sign_in(), token_endpoint=f"{server.url}/token"))
    server.page("POST /token", {"access_token": "a-2", "token_type": "bearer"})
    grant = service.kept()
    assert renew(service.credential(), grant.access_token)
    form = {name: values[0] for name, values in parse_qs(server.asked[-1][2].decode()).items()}
    assert form == {
        "grant_type": "refresh_token",
        "refresh_token": grant.refresh_token,
        "client_id": grant.client.id,
        "resource": service.url,
    }


def test_a_server_that_does_not_rotate_keeps_its_refresh_token(server: Scripted, service: Service) -> None:
    grant = replace(service.sign_in(), token_endpoint=f"{server.url}/token")
    service.store.add(grant)
    server.page("POST /token", {"access_token": "a-2", "token_type": "bearer"})
    assert renew(service.credential(), grant.access_token)
    kept = service.kept()
    assert (kept.access_token, kept.refresh_token) == ("a-2", grant.refresh_token)
    assert (kept.previous_refresh_token, kept.expires_at) == (None, None)
    assert token(service.credential()) == "a-2"


def test_many_who_are_refused_share_one_renewal(service: Service) -> None:
    first = service.sign_in().access_token
    credential = service.credential()

    async def all_of_them() -> list[str]:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(credential.renew, first)
        return [await credential.token() for _ in range(3)]

    assert len(set(asyncio.run(all_of_them()))) == 1
    assert service.oauth.refreshes == 1


def test_many_who_come_shortly_before_the_end_wait_for_the_one_that_renews(service: Service) -> None:
    service.oauth.turn(OAuthKnobs(dash_latency_seconds=0.1))
    first = service.sign_in().access_token
    service.clock.advance(minutes=57)
    credential = service.credential()
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(token, [credential] * 8))
    assert len(tokens) == 1
    assert first not in tokens


def test_credentials_of_one_process_share_one_renewal_too(service: Service) -> None:
    first = service.sign_in().access_token
    credentials = [service.credential() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(renew, credentials, [first] * 8))
    assert len({token(credential) for credential in credentials}) == 1
    assert service.oauth.refreshes == 1


def test_a_token_that_another_process_renewed_is_taken_over(service: Service) -> None:
    first = service.sign_in().access_token
    mine, theirs = service.credential(), service.credential()
    assert token(mine) == first
    assert renew(theirs, first)
    assert renew(mine, first)
    assert token(mine) == token(theirs)
    assert service.oauth.refreshes == 1


def test_a_cancelled_wait_does_not_break_the_renewal(service: Service) -> None:
    service.oauth.turn(OAuthKnobs(dash_latency_seconds=0.1))
    first = service.sign_in().access_token
    credential = service.credential()

    async def impatient() -> str:
        with anyio.move_on_after(0.02):
            await credential.renew(first)
        await credential.renew(first)
        return await credential.token()

    assert asyncio.run(impatient()) == service.kept().access_token
    assert service.oauth.refreshes == 1


@pytest.mark.parametrize("mishap", [429, 401])
@pytest.mark.parametrize("times", [1, 3])
def test_trouble_that_leaves_the_token_unused_is_waited_out(service: Service, mishap: Any, times: int) -> None:
    first = service.sign_in().access_token
    service.oauth.fail_next(mishap, times)
    credential = service.credential()
    assert renew(credential, first)
    assert call(service, token(credential))[0] == 200
    pauses = [pause for pause in service.clock.waits if pause]
    assert len(pauses) == times
    for number, pause in enumerate(pauses):
        assert 2**number / 2 <= pause <= 2**number
    assert renew(service.credential(), token(credential))


def test_waiting_has_an_end_and_the_grant_survives_it(service: Service) -> None:
    first = service.sign_in().access_token
    service.oauth.fail_next(429, 50)
    before = service.clock.seconds
    with pytest.raises(SourceUnavailableError, match="cannot be renewed now.*try again later") as caught:
        renew(service.credential(), first)
    assert caught.value.exit_code == ExitCode.TRY_AGAIN
    assert 40 <= service.clock.seconds - before <= 60
    service.oauth._mishaps.clear()
    assert renew(service.credential(), first)


@pytest.mark.parametrize("mishap", [500, 502, "html", "drop", "lost", "garbled"])
def test_a_token_that_may_have_been_used_is_presented_once_in_a_run(service: Service, mishap: Any) -> None:
    first = service.sign_in().access_token
    service.oauth.fail_next(mishap)
    credential = service.credential()
    for _ in range(3):
        with pytest.raises(SourceUnavailableError, match="cannot be renewed now.*try again later") as caught:
            renew(credential, first)
        assert caught.value.exit_code == ExitCode.TRY_AGAIN
    assert service.oauth.refreshes <= 1
    assert not any(service.clock.waits)
    assert renew(service.credential(), first), "the next run may try, and the grant is as it was"
    assert call(service, service.kept().access_token)[0] == 200


def test_a_refusal_for_good_is_remembered_until_a_renewal_works(service: Service) -> None:
    first = service.sign_in()
    assert dead_because(first) is None
    service.oauth.fail_next(403)
    with pytest.raises(AccessError):
        renew(service.credential(), first.access_token)
    said = dead_because(service.kept())
    assert said is not None
    assert "was refused on 2026-11-20" in said
    assert said.endswith("run: cfaudit-export login")
    assert renew(service.credential(), first.access_token)
    assert dead_because(service.kept()) is None


def test_a_server_that_names_a_pause_is_heeded_or_given_up(server: Scripted, service: Service) -> None:
    service.store.add(replace(service.sign_in(), token_endpoint=f"{server.url}/token"))
    server.page("POST /token", {"error": "temporarily_unavailable"}, 429, retry_after="25")
    with pytest.raises(SourceUnavailableError, match="HTTP 429"):
        renew(service.credential(), service.kept().access_token)
    assert [pause for pause in service.clock.waits if pause] == [25.0, 25.0]
    service.clock.waits.clear()
    server.page("POST /token", {"error": "temporarily_unavailable"}, 429, retry_after="3600")
    with pytest.raises(SourceUnavailableError):
        renew(service.credential(), service.kept().access_token)
    assert not any(service.clock.waits)


def test_while_the_old_token_is_good_nobody_waits_for_a_server_that_is_down(service: Service) -> None:
    first = service.sign_in().access_token
    service.clock.advance(minutes=57)
    credential = service.credential()
    service.oauth.fail_next(429, 2)
    assert [token(credential), token(credential)] == [first, first]
    assert service.oauth.refreshes == 1
    assert not any(service.clock.waits)
    service.clock.advance(seconds=31)
    assert token(credential) == first
    service.clock.advance(seconds=31)
    assert token(credential) != first


def test_while_the_old_token_is_good_nobody_waits_for_another_process(service: Service) -> None:
    first = service.sign_in().access_token
    service.clock.advance(minutes=57)
    with service.store.hold(service.url, "default", wait_seconds=0):
        assert token(service.credential()) == first


def test_another_process_is_waited_for_only_so_long(service: Service) -> None:
    first = service.sign_in().access_token
    with (
        service.store.hold(service.url, "default", wait_seconds=0),
        pytest.raises(TryAgainError, match="another process is renewing"),
    ):
        renew(service.credential(retry_seconds=0.02), first)


def test_a_refresh_token_of_a_moment_ago_may_be_unknown_for_a_while_and_its_predecessor_helps(service: Service) -> None:
    first = service.sign_in().access_token
    service.oauth.turn(OAuthKnobs(lag_seconds=60))
    for _ in range(4):
        credential = service.credential()
        assert renew(credential, token(credential))
        assert call(service, token(credential))[0] == 200
    assert token(credential) != first
    assert not any(service.clock.waits)


def test_a_renewal_that_could_not_be_kept_is_made_up_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = service.sign_in().access_token
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", _disk_full)
        with pytest.raises(TryAgainError, match="No space left"):
            renew(service.credential(), first)
    assert service.kept().access_token == first
    assert renew(service.credential(), first)
    assert call(service, token(service.credential()))[0] == 200


def _disk_full(_handle: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_another_machine_writes_to_without_locks_is_read_again(service: Service) -> None:
    """The grant that this process was about to refresh was replaced and its tokens used up meanwhile."""
    first = service.sign_in()

    def elsewhere(pause: float) -> None:
        if pause == 0:
            return
        service.store.update(renewed)

    with TokenEndpoint(first.client, first.token_endpoint) as endpoint:
        one = first.renewed(
            endpoint.refresh(first.refresh_token, service.url), first.refresh_token, service.clock.now()
        )
        renewed = one.renewed(endpoint.refresh(one.refresh_token, service.url), one.refresh_token, service.clock.now())
    credential = service.credential(sleep=elsewhere)
    assert renew(credential, first.access_token)
    assert token(credential) == renewed.access_token


def revoke_all(service: Service) -> None:
    service.oauth.memory.grants.clear()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (revoke_all, "Grant not found"),
        (lambda service: service.oauth.dash.revoke(), "Authorization grant is invalid, expired, or revoked"),
        (lambda service: service.clock.advance(days=29, hours=23, minutes=59, seconds=1), "Refresh token has expired"),
    ],
)
def test_a_grant_that_is_gone_ends_with_the_command_to_run(service: Service, end: Any, words: str) -> None:
    first = service.sign_in().access_token
    end(service)
    with pytest.raises(AccessError) as caught:
        renew(service.credential(), first)
    assert words in str(caught.value)
    assert str(caught.value).endswith("run: cfaudit-export login")
    assert caught.value.exit_code == ExitCode.ACCESS
    assert sum(service.clock.waits) == 12.0


def test_a_registration_that_ended_is_told_and_made_again_at_the_next_sign_in(service: Service) -> None:
    first = service.sign_in()
    service.oauth.forget_clients()
    with pytest.raises(AccessError, match="refuses this program.*Client not found.*; run: cfaudit-export login"):
        renew(service.credential(), first.access_token)
    second = service.sign_in()
    assert second.client.id != first.client.id
    assert renew(service.credential(), second.access_token)


def test_a_secret_that_ended_is_told_with_the_settings_to_check(service: Service) -> None:
    body = {"redirect_uris": ["http://127.0.0.1/callback"]}
    client = httpx2.post(f"{service.sandbox.url}/register", json=body, trust_env=False).json()
    grant = service.sign_in(client_id=client["client_id"], client_secret=client["client_secret"])
    service.store.update(replace(grant, client=replace(grant.client, secret="another-secret")))
    with pytest.raises(
        AccessError, match="invalid client_secret.*check client_id and client_secret, then run:"
    ) as caught:
        renew(service.credential(), grant.access_token)
    assert "another-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("invalid_target", AccessError),
        ("invalid_scope", AccessError),
        ("unauthorized_client", AccessError),
        ("invalid_request", ProtocolError),
        ("unsupported_grant_type", ProtocolError),
    ],
)
def test_every_other_refusal_ends_at_once(
    server: Scripted, service: Service, code: str, error: type[Exception]
) -> None:
    service.store.add(replace(service.sign_in(), token_endpoint=f"{server.url}/token"))
    server.page("POST /token", {"error": code, "error_description": "because \u202e"}, 400)
    with pytest.raises(error) as caught:
        renew(service.credential(), service.kept().access_token)
    assert f"'because \\u202e' ({code})" in str(caught.value)
    assert len(server.asked) == 1


def test_a_token_endpoint_that_moved_is_not_taken_for_a_passing_trouble(server: Scripted, service: Service) -> None:
    service.store.add(replace(service.sign_in(), token_endpoint=f"{server.url}/token"))
    with pytest.raises(ProtocolError, match="HTTP 404"):
        renew(service.credential(), service.kept().access_token)


def test_a_redirect_of_the_token_endpoint_is_not_followed(server: Scripted, script: Script, service: Service) -> None:
    other = script()
    service.store.add(replace(service.sign_in(), token_endpoint=f"{server.url}/token"))
    server.page("POST /token", status=307, location=f"{other.url}/token")
    with pytest.raises(ProtocolError, match="HTTP 307"):
        renew(service.credential(), service.kept().access_token)
    assert other.asked == []


def test_a_dead_inner_token_is_cured_by_a_renewal(service: Service) -> None:
    first = service.sign_in().access_token
    credential = service.credential()
    service.oauth.dash.kill()
    status, text = call(service, first)
    assert (status, "Cloudflare API request failed" in text) == (200, True)
    assert renew(credential, first)
    assert "Cloudflare API request failed" not in call(service, token(credential))[1]


def test_nobody_signed_in_is_told_with_the_command_to_run(service: Service) -> None:
    with pytest.raises(AccessError, match=r"not signed in at '.*/mcp'; run: cfaudit-export login --profile x"):
        token(service.credential(profile="x"))
    with pytest.raises(AccessError, match="run: cfaudit-export login$"):
        renew(service.credential(), "anything")


def test_without_a_refresh_token_the_access_token_is_used_to_its_end(service: Service) -> None:
    grant = replace(service.sign_in(), refresh_token=None)
    service.store.add(grant)
    credential = service.credential()
    assert not renew(credential, grant.access_token)
    service.clock.advance(minutes=59)
    assert token(service.credential()) == grant.access_token
    service.clock.advance(minutes=1)
    with pytest.raises(AccessError, match="has ended; run: cfaudit-export login"):
        token(service.credential())


def test_the_predecessor_is_kept_in_case_the_newest_is_lost(service: Service) -> None:
    first = service.sign_in()
    assert renew(service.credential(), first.access_token)
    kept = service.kept()
    assert kept.previous_refresh_token == first.refresh_token
    service.store.update(replace(kept, refresh_token="lost"))
    assert renew(service.credential(), kept.access_token)


def test_every_secret_is_given_to_be_hidden(service: Service) -> None:
    hidden: set[str] = set()
    first = service.sign_in()
    assert renew(service.credential(hide=hidden.add), first.access_token)
    assert hidden == {*first.secrets, *service.kept().secrets}


def test_the_days_that_are_left_are_counted_from_the_sign_in(service: Service) -> None:
    grant = service.sign_in(grant_days=30)
    assert grant_days_left(grant, service.clock.now()) == 30
    service.clock.advance(days=23, hours=12)
    assert renew(service.credential(), grant.access_token)
    assert grant_days_left(service.kept(), service.clock.now()) == 6.5
    service.clock.advance(days=30)
    assert grant_days_left(service.kept(), service.clock.now()) == 0
    assert grant_days_left(replace(grant, grant_expires_at=None), service.clock.now()) is None
    assert json.loads(json.dumps(grant_days_left(grant, service.clock.now()))) == 0
