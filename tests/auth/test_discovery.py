from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cfaudit_export.auth.discovery import AuthorizationServer, Dialect, discover
from cfaudit_export.auth.web import open_http
from cfaudit_export.errors import ProtocolError, SettingsError, SourceUnavailableError

if TYPE_CHECKING:
    from tests.core.auth.conftest import Scripted, Service

RESOURCE = "GET /.well-known/oauth-protected-resource"
SERVER = "GET /.well-known/oauth-authorization-server"


def found_at(url: str, **options: Any) -> AuthorizationServer:
    with open_http(url) as http:
        return discover(http, url, **options)


def test_the_emulated_server_is_found_as_it_describes_itself(service: Service) -> None:
    found, origin = found_at(service.url), service.sandbox.url
    assert found == AuthorizationServer(
        audience=service.url,
        issuer=origin,
        authorization_endpoint=f"{origin}/oauth/authorize",
        token_endpoint=f"{origin}/token",
        registration_endpoint=f"{origin}/register",
        revocation_endpoint=f"{origin}/token",
        auth_methods=("client_secret_basic", "client_secret_post", "none"),
        scope=None,
        names_itself=False,
        client_id_documents=False,
    )


def test_the_challenge_says_where_to_look(server: Scripted) -> None:
    server.page("POST /mcp", status=401, www_authenticate='Bearer realm="x, y", resource_metadata={url}/there')
    server.page("GET /there", {"resource": "{url}/mcp", "authorization_servers": ["{url}"]})
    found_at(f"{server.url}/mcp")
    assert server.routes() == ["POST /mcp", "GET /there", SERVER]


@pytest.mark.parametrize("challenge", ["Bearer", 'Bearer resource_metadata="{url}/gone"'])
def test_without_it_the_place_below_well_known_counts_and_then_the_root(server: Scripted, challenge: str) -> None:
    server.page("POST /mcp", status=401, www_authenticate=challenge)
    assert found_at(f"{server.url}/mcp").audience == f"{server.url}/mcp"
    del server.pages[f"{RESOURCE}/mcp"]
    server.page(RESOURCE, {"resource": "{url}", "authorization_servers": ["{url}"]})
    assert found_at(f"{server.url}/mcp").audience == server.url


def test_a_server_of_an_older_revision_is_its_own_issuer(server: Scripted) -> None:
    server.page("POST /mcp", status=401)
    del server.pages[f"{RESOURCE}/mcp"]
    found = found_at(f"{server.url}/mcp")
    assert (found.issuer, found.audience) == (server.url, f"{server.url}/mcp")


def test_metadata_that_the_challenge_names_and_nobody_has_is_an_error(server: Scripted) -> None:
    del server.pages[f"{RESOURCE}/mcp"]
    with pytest.raises(
        ProtocolError, match="there is no document at '.*/mcp', which '.*/mcp' names as the protected-resource metadata"
    ):
        found_at(f"{server.url}/mcp")


@pytest.mark.parametrize("named", ["{url}/other", "{url}/mc", "{url}/mcp/deeper", "https://evil.example/mcp", 7, None])
def test_metadata_about_another_resource_is_refused(server: Scripted, named: object) -> None:
    server.page(f"{RESOURCE}/mcp", {"resource": named, "authorization_servers": ["{url}"]})
    with pytest.raises(ProtocolError, match="is about '.*', not about"):
        found_at(f"{server.url}/mcp")


def test_the_resource_is_asked_for_in_the_spelling_of_its_metadata(server: Scripted) -> None:
    server.page(f"{RESOURCE}/mcp", {"resource": "HTTP{url}/mcp", "authorization_servers": ["{url}"]})
    spelt = server.pages[f"{RESOURCE}/mcp"][2].replace(b"HTTPhttp", b"HTTP")
    server.page(f"{RESOURCE}/mcp", spelt)
    assert found_at(f"{server.url}/mcp").audience == "HTTP" + server.url.removeprefix("http") + "/mcp"


@pytest.mark.parametrize("issuers", [None, [], "text", [1]])
def test_a_resource_without_an_authorization_server_is_an_error(server: Scripted, issuers: object) -> None:
    server.page(f"{RESOURCE}/mcp", {"resource": "{url}/mcp", "authorization_servers": issuers})
    with pytest.raises(ProtocolError):
        found_at(f"{server.url}/mcp")


def test_the_openid_form_of_the_metadata_counts_too(server: Scripted) -> None:
    del server.pages[SERVER]
    server.describe("/.well-known/openid-configuration")
    assert found_at(f"{server.url}/mcp").token_endpoint == f"{server.url}/token"


@pytest.mark.parametrize(
    "place",
    [
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ],
)
def test_an_issuer_with_a_path_is_looked_for_in_three_places(server: Scripted, place: str) -> None:
    server.page(f"{RESOURCE}/mcp", {"resource": "{url}/mcp", "authorization_servers": ["{url}/tenant"]})
    server.page(SERVER, b"")
    server.describe(place, issuer="{url}/tenant")
    assert found_at(f"{server.url}/mcp").issuer == f"{server.url}/tenant"


@pytest.mark.parametrize("issuer", ["{url}/other", "https://evil.example", "", None, 5])
def test_metadata_of_another_issuer_is_refused(server: Scripted, issuer: object) -> None:
    server.describe(issuer=issuer)
    with pytest.raises(ProtocolError, match="is the metadata of issuer"):
        found_at(f"{server.url}/mcp")


@pytest.mark.parametrize(("document", "asked"), [("/mcp/", "/mcp"), ("/mcp", "/mcp/")])
def test_a_document_about_the_place_with_a_slash_more_or_less_is_about_it(
    server: Scripted, document: str, asked: str
) -> None:
    server.page(f"POST {asked}", status=401, www_authenticate="Bearer")
    server.page(f"{RESOURCE}{asked}", {"resource": f"{{url}}{document}", "authorization_servers": ["{url}"]})
    assert found_at(f"{server.url}{asked}").audience == f"{server.url}{document}"


def test_a_bare_slash_does_not_make_another_issuer(server: Scripted) -> None:
    server.page(f"{RESOURCE}/mcp", {"resource": "{url}/mcp", "authorization_servers": ["{url}/"]})
    assert found_at(f"{server.url}/mcp").issuer == server.url


@pytest.mark.parametrize("issuer", ["http://as.example", "ftp://as.example", "not a url", "https://u@as.example"])
def test_an_issuer_that_is_not_an_https_url_is_not_asked(server: Scripted, issuer: str) -> None:
    server.page(f"{RESOURCE}/mcp", {"resource": "{url}/mcp", "authorization_servers": [issuer]})
    with pytest.raises(ProtocolError, match="only https is allowed"):
        found_at(f"{server.url}/mcp")


def test_an_issuer_without_metadata_is_an_error_that_lists_where_it_was_sought(server: Scripted) -> None:
    del server.pages[SERVER]
    with pytest.raises(ProtocolError, match="oauth-authorization-server.*openid-configuration"):
        found_at(f"{server.url}/mcp")


@pytest.mark.parametrize("methods", [None, [], ["plain"], "S256"])
def test_a_server_without_pkce_s256_is_refused(server: Scripted, methods: object) -> None:
    server.describe(code_challenge_methods_supported=methods)
    with pytest.raises(ProtocolError):
        found_at(f"{server.url}/mcp")


@pytest.mark.parametrize("endpoint", ["authorization", "token", "registration", "revocation"])
@pytest.mark.parametrize("url", ["http://as.example/x", "/relative", 3])
def test_an_endpoint_that_would_get_secrets_in_the_clear_is_refused(
    server: Scripted, endpoint: str, url: object
) -> None:
    server.describe(**{f"{endpoint}_endpoint": url})
    with pytest.raises(ProtocolError, match=f"the {endpoint} endpoint"):
        found_at(f"{server.url}/mcp")


@pytest.mark.parametrize("endpoint", ["authorization_endpoint", "token_endpoint"])
def test_a_server_without_an_endpoint_that_is_needed_is_refused(server: Scripted, endpoint: str) -> None:
    server.describe(**{endpoint: None})
    with pytest.raises(ProtocolError, match="names no endpoint"):
        found_at(f"{server.url}/mcp")


PUBLIC = "https://auditlogs.example/mcp"


def described(**changes: object) -> dict[str, object]:
    metadata = {
        "issuer": "https://as.example",
        "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token",
        "code_challenge_methods_supported": ["S256"],
    }
    return metadata | changes


@pytest.fixture
def public(server: Scripted) -> Any:
    """Discover a server that says it is a public one, by answering for every host from one table."""

    def ask(*, resource: dict[str, object], metadata: dict[str, object], challenge: str = "", **options: Any) -> Any:
        def answer(request: httpx2.Request) -> httpx2.Response:
            asked.append(str(request.url))
            if request.method == "POST":
                return httpx2.Response(401, headers={"WWW-Authenticate": challenge} if challenge else {})
            if "oauth-protected-resource" in request.url.path:
                return httpx2.Response(200, json=resource)
            return httpx2.Response(200, json=metadata)

        asked: list[str] = []
        with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
            try:
                return discover(http, PUBLIC, **options), asked
            except ProtocolError as error:
                return error, asked

    return ask


OWN = {"resource": PUBLIC, "authorization_servers": ["https://as.example"]}


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/.well-known/oauth-protected-resource",
        "https://127.0.0.1/latest/meta-data",
        "http://127.0.0.1:9000/",
        "https://[::1]/",
        "https://auditlogs.example.evil.example/",
    ],
)
def test_metadata_elsewhere_is_not_asked_for(public: Any, place: str) -> None:
    found, asked = public(resource=OWN, metadata=described(), challenge=f'Bearer resource_metadata="{place}"')
    assert "refusing to fetch" in str(found)
    assert asked == [PUBLIC]


@pytest.mark.parametrize(
    "issuer", ["https://10.0.0.5", "http://127.0.0.1:8080", "https://localhost", "https://[fd00::1]"]
)
def test_an_issuer_in_another_network_is_not_asked(public: Any, issuer: str) -> None:
    found, asked = public(resource=OWN | {"authorization_servers": [issuer]}, metadata=described())
    assert "is in another network" in str(found)
    assert all(one.startswith("https://auditlogs.example/") for one in asked)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "registration_endpoint"])
def test_endpoints_of_another_origin_than_the_issuers_are_a_mix_up(public: Any, name: str) -> None:
    elsewhere = {name: "https://oauth2.other.example/x"}
    found, _ = public(resource=OWN, metadata=described(**elsewhere))
    assert "set oauth_origins = ['https://oauth2.other.example']" in str(found)
    dialect = Dialect(origins=("https://oauth2.other.example",))
    found, _ = public(resource=OWN, metadata=described(**elsewhere), dialect=dialect)
    assert getattr(found, name) == "https://oauth2.other.example/x"


def test_no_origin_in_a_private_network_is_allowed_for_a_public_server(public: Any) -> None:
    dialect = Dialect(origins=("https://10.0.0.5",))
    found, _ = public(resource=OWN, metadata=described(token_endpoint="https://10.0.0.5/token"), dialect=dialect)
    assert "is in another network" in str(found)


def test_a_document_about_the_folder_of_the_server_is_about_the_server(public: Any) -> None:
    found, _ = public(resource=OWN | {"resource": f"{PUBLIC}/"}, metadata=described())
    assert found.audience == f"{PUBLIC}/"
    found, _ = public(resource=OWN, metadata=described(), dialect=Dialect(names_resource=False))
    assert found.audience == ""


def test_pkce_without_being_listed_has_to_be_asked_for(public: Any) -> None:
    unlisted = described(code_challenge_methods_supported=None)
    found, _ = public(resource=OWN, metadata=unlisted)
    assert "set oauth_pkce = 'always'" in str(found)
    found, _ = public(resource=OWN, metadata=unlisted, dialect=Dialect(lists_pkce=False))
    assert found.token_endpoint == "https://as.example/token"


def test_plain_http_endpoints_are_taken_when_asked_for(server: Scripted) -> None:
    server.describe(token_endpoint="http://as.example/token")
    dialect = Dialect(origins=("http://as.example",))
    found = found_at(f"{server.url}/mcp", dialect=dialect, insecure_http=True)
    assert found.token_endpoint == "http://as.example/token"


def test_without_a_list_the_secret_goes_by_basic_authentication(server: Scripted) -> None:
    server.describe()
    assert found_at(f"{server.url}/mcp").auth_methods == ("client_secret_basic",)


def test_the_scope_of_the_challenge_wins_over_that_of_the_metadata(server: Scripted) -> None:
    document = {"resource": "{url}/mcp", "authorization_servers": ["{url}"], "scopes_supported": ["a", "b"]}
    server.page(f"{RESOURCE}/mcp", document)
    assert found_at(f"{server.url}/mcp").scope == "a b"
    server.page("POST /mcp", status=401, www_authenticate='Bearer scope="c d", error="invalid_token"')
    assert found_at(f"{server.url}/mcp").scope == "c d"


def test_where_refresh_tokens_must_be_asked_for_they_are(server: Scripted) -> None:
    server.page("POST /mcp", status=401, www_authenticate='Bearer scope="read"')
    server.describe(scopes_supported=["read", "offline_access"])
    assert found_at(f"{server.url}/mcp").scope == "read offline_access"


def test_a_server_that_lets_everybody_in_needs_no_sign_in(server: Scripted) -> None:
    server.page("POST /mcp", {"jsonrpc": "2.0"})
    with pytest.raises(SettingsError, match="does not require authentication"):
        found_at(f"{server.url}/mcp")


def test_a_server_that_moved_is_not_followed_with_what_we_would_send(server: Scripted) -> None:
    server.page("POST /mcp", status=308, location="https://elsewhere.example/mcp")
    with pytest.raises(SettingsError, match="redirects to 'https://elsewhere.example/mcp'"):
        found_at(f"{server.url}/mcp")


def test_a_path_where_nobody_answers_is_an_error(server: Scripted) -> None:
    with pytest.raises(ProtocolError, match="no MCP server at"):
        found_at(f"{server.url}/mpc")


@pytest.mark.parametrize("url", ["http://example.com/mcp", "example.com/mcp", "https://a:b@example.com/mcp"])
def test_a_url_to_which_no_secret_may_go_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="https://host/mcp"):
        found_at(url)


@pytest.mark.parametrize("route", ["POST /mcp", f"{RESOURCE}/mcp", SERVER])
def test_a_server_that_is_down_is_a_reason_to_try_again(server: Scripted, route: str) -> None:
    server.page(route, status=503)
    with pytest.raises(SourceUnavailableError, match="HTTP 503"):
        found_at(f"{server.url}/mcp")
