"""How the authorization server of an MCP server is found, and which documents are refused."""

from __future__ import annotations

import json

import pytest
import trio

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp.auth.discovery import discover_authorization
from clawft_trio.mcp.auth.http import Answer

SERVER = "https://mcp.example.com/mcp"
OF_RESOURCE = "https://mcp.example.com/.well-known/oauth-protected-resource"
FIRST, SECOND = "https://as.example.com", "https://other.example.com"


def of_server(issuer, **more):
    return {"issuer": issuer, "token_endpoint": f"{issuer}/token", **more}


def at(issuer):
    return f"{issuer}/.well-known/oauth-authorization-server"


class Web:
    """Documents by address; all others are not found."""

    def __init__(self, documents):
        self.documents = documents
        self.requested = []

    async def get(self, address, what):
        await trio.lowlevel.checkpoint()
        self.requested.append(address)
        if address not in self.documents:
            return Answer(404, b"{}")
        return Answer(200, json.dumps(self.documents[address]).encode())


RESOURCE = {"resource": SERVER, "authorization_servers": [FIRST, SECOND], "scopes_supported": ["a"]}
WHOLE = {f"{OF_RESOURCE}/mcp": RESOURCE, at(FIRST): of_server(FIRST), at(SECOND): of_server(SECOND)}


async def test_the_first_authorization_server_of_the_resource_is_used():
    web = Web(WHOLE)
    found = await discover_authorization(web, SERVER)
    assert (found.resource, found.scopes, found.server.issuer) == (SERVER, ("a",), FIRST)
    assert found.has_metadata
    assert web.requested == [f"{OF_RESOURCE}/mcp", at(FIRST)]


async def test_a_chosen_issuer_has_to_be_one_that_the_resource_names():
    assert (await discover_authorization(Web(WHOLE), SERVER, issuer=SECOND)).server.issuer == SECOND
    with pytest.raises(AuthorizationFailed, match="does not name the authorization server"):
        await discover_authorization(Web(WHOLE), SERVER, issuer="https://evil.example.com")


async def test_metadata_is_read_where_the_challenge_names_it_and_nowhere_else():
    named = "https://mcp.example.com/meta"
    web = Web({named: {**RESOURCE, "authorization_servers": [SECOND]}, at(SECOND): of_server(SECOND)})
    assert (await discover_authorization(web, SERVER, named)).server.issuer == SECOND
    assert web.requested == [named, at(SECOND)]
    with pytest.raises(AuthorizationFailed, match="HTTP status 404"):
        await discover_authorization(Web(WHOLE), SERVER, named)


async def test_metadata_of_the_origin_counts_for_a_path_without_its_own():
    found = await discover_authorization(
        Web({OF_RESOURCE: {**RESOURCE, "resource": "https://mcp.example.com"}, at(FIRST): of_server(FIRST)}), SERVER
    )
    assert found.resource == "https://mcp.example.com"


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({f"{OF_RESOURCE}/mcp": {**RESOURCE, "resource": "https://evil.example.com"}}, "for another resource"),
        ({f"{OF_RESOURCE}/mcp": {**RESOURCE, "authorization_servers": []}}, "names no authorization server"),
        ({f"{OF_RESOURCE}/mcp": {**RESOURCE, "authorization_servers": ["http://as.example.com"]}}, "no https"),
        ({at(FIRST): None}, "has no metadata"),
        ({at(FIRST): of_server(SECOND)}, "of another issuer"),
        ({at(FIRST): of_server(FIRST, token_endpoint="http://a.com/t")}, "token endpoint"),
        ({at(FIRST): of_server(FIRST, authorization_endpoint="http://a.com/t")}, "authorization endpoint"),
        ({at(FIRST): of_server(FIRST, registration_endpoint="http://a.com/t")}, "registration endpoint"),
    ],
)
async def test_documents_that_do_not_fit_are_refused(documents, words):
    known = {address: document for address, document in {**WHOLE, **documents}.items() if document is not None}
    with pytest.raises(AuthorizationFailed, match=words):
        await discover_authorization(Web(known), SERVER)


async def test_a_server_without_metadata_has_the_addresses_of_2025_03_26():
    found = await discover_authorization(Web({}), SERVER)
    assert not found.has_metadata
    assert (found.resource, found.scopes) == (SERVER, ())
    origin = "https://mcp.example.com"
    assert found.server.issuer == origin
    assert found.server.authorization_endpoint == f"{origin}/authorize"
    assert found.server.token_endpoint == f"{origin}/token"
    assert found.server.registration_endpoint == f"{origin}/register"


async def test_a_server_of_2025_03_26_may_have_metadata_at_its_origin():
    origin = "https://mcp.example.com"
    found = await discover_authorization(Web({at(origin): of_server(origin, token_endpoint=f"{origin}/t")}), SERVER)
    assert found.has_metadata
    assert (found.resource, found.scopes, found.server.token_endpoint) == (SERVER, (), f"{origin}/t")
