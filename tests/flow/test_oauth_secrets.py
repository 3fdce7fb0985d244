"""Everything that a whole life of a grant writes, searched for every secret in it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx2

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit

WAIT_SECONDS = 30

# Signs in, renews, meets every sort of refusal, signs out, and crashes; with all logging on and nothing redacted.
PROGRAM = """
import asyncio, logging, os, sys, traceback
from datetime import UTC, datetime
from pathlib import Path
from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.registration import read_client_secret
from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.signout import sign_out
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.core.redaction import Redaction
from cfaudit_export.app.log import logging_to

url, state_dir, client_id, secrets = sys.argv[1:]
secrets = open(secrets, "a", buffering=1)

def hide(secret):
    print(secret, file=secrets)

def show(*words):
    print(*words, file=sys.stderr, flush=True)

def now():
    return datetime.now(UTC)

def crash(_seconds):
    raise RuntimeError("crash in the middle of a refresh")

def attempt(function):
    try:
        show("got", function())
    except Exception as error:
        show(repr(error), traceback.format_exc())

store = GrantStore(Path(state_dir))
options = SignIn(server_url=url, client_id=client_id, client_secret=read_client_secret(variable="SECRET"))

def renew():
    return asyncio.run(credential.renew(asyncio.run(credential.token())))

with logging_to(sys.stderr, form="text", verbosity=2, redaction=Redaction()):
    logging.getLogger().setLevel(1)
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))  # also what goes over the wire
    grant = sign_in(options, store, clock=now, tell=show, open_browser=lambda url: show("BROWSE", url), hide=hide)
    credential = OAuthCredential(store, url, clock=now, sleep=lambda _seconds: None, retry_seconds=3, hide=hide)
    show(options, grant, credential, store, vars(store))
    for step in sys.stdin:
        step = step.strip()
        if step == "renew":
            attempt(renew)
        elif step == "damage":
            path = next(Path(state_dir, "grants").glob("*.json"))
            path.write_bytes(path.read_bytes()[:-40])
            attempt(renew)
        elif step == "logout":
            attempt(lambda: sign_out(store, url, "default", tell=show))
        elif step == "crash":
            credential = OAuthCredential(store, url, clock=now, sleep=crash)
            sys.stderr.flush()
            renew()
        show("STEP", step)
"""


def test_no_secret_is_in_anything_that_is_written(tmp_path: Path) -> None:
    state_dir, noted = tmp_path / "state", tmp_path / "secrets"
    with Sandbox(World(SandboxOptions(events=10))) as sandbox:
        oauth = sandbox.app.authorization = OAuth(sandbox.world)
        body = {"redirect_uris": ["http://127.0.0.1/callback"]}
        client = httpx2.post(f"{sandbox.url}/register", json=body, trust_env=False).json()
        program = subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", PROGRAM, sandbox.mcp_url, state_dir, client["client_id"], noted],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"SECRET": client["client_secret"]},
        )
        assert program.stdin is not None
        assert program.stdout is not None
        written, server_side = [], set[str]()

        def until(word: str) -> str:
            assert program.stdout is not None
            for line in program.stdout:
                written.append(line)
                if line.startswith(word):
                    return line.split()[-1]
            raise AssertionError("".join(written))

        def step(name: str) -> None:
            assert program.stdin is not None
            server_side.update(secrets_of(oauth))
            program.stdin.write(f"{name}\n")
            program.stdin.flush()
            until("STEP")

        visit(until("BROWSE"))
        step("renew")
        arguments = Path(f"/proc/{program.pid}/cmdline").read_text("utf-8").replace(PROGRAM, "")
        for mishap in ("lost", "drop", "garbled", "html", 500, 401):
            oauth.fail_next(mishap)
            step("renew")
        oauth.fail_next(503, 20)
        step("renew")
        oauth._mishaps.clear()
        oauth.fail_next("lost")
        program.stdin.write("crash\n")
        program.stdin.close()
        written.append(program.stdout.read())
        program.stdout.close()
        assert program.wait(WAIT_SECONDS) == 1
        server_side.update(secrets_of(oauth))

    output = "".join(written)
    assert "crash in the middle of a refresh" in output
    assert "sign-in renewed" in output
    assert "httpcore2" in output  # the most talkative library did talk
    known = set(noted.read_text("utf-8").splitlines()) | server_side | {client["client_secret"]}
    assert len(known) >= 8
    pair = f"{client['client_id']}:{client['client_secret']}".encode()
    forms = known | {quote(secret, safe="") for secret in known} | {base64.b64encode(pair).decode()}
    assert not [secret for secret in forms if secret in output or secret in arguments]
    files = [path for path in state_dir.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert not [path for path in files if any(secret in path.read_text("utf-8") for secret in forms)]


def secrets_of(oauth: OAuth) -> set[str]:
    return {
        secret
        for grant in oauth.memory.grants.values()
        for secret in (grant.code, grant.newest, grant.previous, *grant.access)
        if secret
    }
