"""A real browser goes through consent and lands on our page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.errors import AccessError
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth

WAIT_SECONDS = 60  # a browser on a busy machine is slow


class Person:
    """A person at a browser, who follows a list of buttons to click, page by page."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._thread: threading.Thread | None = None
        self._last_page = ""
        self._error: BaseException | None = None

    def clicking(self, *buttons: str, to: str) -> Callable[[str], None]:
        """Click one button after the other, and go on to the page that says `to`."""

        def open_browser(url: str) -> None:
            self._thread = threading.Thread(target=self._go, args=(url, buttons, to))
            self._thread.start()

        return open_browser

    def _go(self, url: str, buttons: tuple[str, ...], to: str) -> None:
        try:
            self._browser.get(url)
            for button in buttons:
                self._click(button)
            self._last_page = self._seen(lambda: to in self._text() and self._text())
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            self._error = error

    def _click(self, button: str) -> None:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.common.by import By

        found = self._seen(lambda: self._browser.find_element(By.ID, button))
        # Whether it was clicked is seen by the next page; to click twice would be to sign in twice.
        with suppress(WebDriverException):
            found.click()

    def _text(self) -> str:
        from selenium.webdriver.common.by import By

        return str(self._browser.find_element(By.TAG_NAME, "body").text)

    def _seen(self, look: Callable[[], Any]) -> Any:
        """Look until there is something; any error may come of a page that is just changing."""
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self._browser, WAIT_SECONDS, ignored_exceptions=(WebDriverException,))
        return wait.until(lambda _browser: look())

    def done(self) -> str:
        """Return the text of the page at which the browser ended."""
        assert self._thread is not None
        self._thread.join(3 * WAIT_SECONDS)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._last_page


@pytest.fixture
def person(browser: Any) -> Person:
    return Person(browser)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=10))) as sandbox:
        sandbox.app.authorization = OAuth(sandbox.world)
        yield sandbox


def test_a_person_consents_and_lands_on_our_page(person: Person, sandbox: Sandbox, tmp_path: Path) -> None:
    def attempt(*buttons: str) -> str:
        grant = sign_in(
            SignIn(server_url=sandbox.mcp_url, limit_seconds=WAIT_SECONDS),
            GrantStore(tmp_path),
            clock=lambda: datetime.now(UTC),
            tell=lambda _line: None,
            open_browser=person.clicking(*buttons, to="Thank you"),
        )
        headers = {"Authorization": f"Bearer {grant.access_token}"}
        assert httpx2.get(sandbox.mcp_url, headers=headers, trust_env=False).status_code == 405
        return person.done()

    assert attempt("approve", "allow") == "Thank you\nReturn to your terminal. You can close this window."
    # The server remembers the consent in a cookie and only the dashboard asks again.
    assert attempt("allow").startswith("Thank you")


def test_a_person_who_refuses_sees_the_servers_page_and_the_program_gives_up(
    person: Person, sandbox: Sandbox, tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match="an error there; run: cfaudit-export login"):
        sign_in(
            SignIn(server_url=sandbox.mcp_url, limit_seconds=0.5),
            GrantStore(tmp_path),
            clock=lambda: datetime.now(UTC),
            tell=lambda _line: None,
            open_browser=person.clicking("approve", "deny", to="ZodError"),
        )
    assert "ZodError" in person.done()
