"""The URL of a sign-in -> its end, walked through as a person with a browser would, without one.

sign_in(options, store, ..., open_browser=visit)
"""

from __future__ import annotations

import html
import re
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    import httpx2

_TIMEOUT_SECONDS = 10.0
_STEPS = 12
_INPUT = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


def visit(url: str, decision: Literal["allow", "deny", "cancel"] = "allow", *, arrive: bool = True) -> str:
    """Go from page to page, consenting and then allowing or denying, or cancelling; return the URL where it ends.

    That is the client's redirect, which is asked for too unless `arrive` is False, or a page that leads nowhere.
    """
    import httpx2

    home, cookies = urlsplit(url).netloc, dict[str, str]()
    with httpx2.Client(timeout=_TIMEOUT_SECONDS, trust_env=False, verify=False) as http:
        response = http.get(url)
        for _ in range(_STEPS):
            # A jar would not send back cookies marked Secure to plain http, as browsers do on the loopback.
            for line in response.headers.get_list("set-cookie"):
                cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
            held = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
            if response.is_redirect:
                url = urljoin(url, response.headers["location"])
                if urlsplit(url).netloc != home:
                    if arrive:
                        http.get(url)
                    return url
                response = http.get(url, headers=held)
            elif "<form" in response.text:
                response = _submit(http, url, response.text, decision, held)
            else:
                return url
    raise RuntimeError(f"the sign-in did not end within {_STEPS} pages")


def _submit(http: httpx2.Client, url: str, page: str, decision: str, held: dict[str, str]) -> httpx2.Response:
    action = re.search(r'action="([^"]*)"', page)
    fields = {name: html.unescape(value) for name, value in _INPUT.findall(page)}
    if 'name="decision"' in page:
        fields["decision"] = decision
    elif decision == "cancel":
        fields["cancel"] = "1"
    return http.post(urljoin(url, action[1] if action else ""), data=fields, headers=held)
