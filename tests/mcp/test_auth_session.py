"""The login at one server without sockets: renewals that are shared, and what a refusal costs."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlencode, urlsplit

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp import Credentials, MemoryTokenStore, OAuth, OAuthClient, Token
from clawft_trio.mcp.auth.http import Answer
from clawft_trio.mcp.auth.oauth import OAuthSession

SERVER = "https://mcp.example.com/mcp"
ISSUER = "https://as.example.com"
CLIENT = OAuthClient(client_id="c")


class Login:
    """The authorization server, the connections to it, and the person."""

    uri = "http://127.0.0.1:7/callback"

    def __init__(self):
        self.resource = {"resource": SERVER, "authorization_servers": [ISSUER]}
        self.visits = []
        self.forms = []
        self.asked = trio.Event()
        self.asked.set()
        self.refusal = None
        self.token = {"refresh_token": "r", "expires_in": 3600}
        self.token_status = 200

    async def get(self, address, what):
        await trio.lowlevel.checkpoint()
        document = self.resource
        if what != "resource metadata":
            document = {
                "issuer": ISSUER,
                "token_endpoint": f"{ISSUER}/token",
                "authorization_endpoint": f"{ISSUER}/authorize",
                "code_challenge_methods_supported": ["S256"],
            }
        return Answer(200, json.dumps(document).encode())

    async def post_form(self, address, what, form, headers=None):
        await trio.lowlevel.checkpoint()
        self.forms.append(dict(form))
        return Answer(self.token_status, json.dumps({"access_token": f"t{len(self.forms)}", **self.token}).encode())

    def check_visit(self, address, what):
        assert address == f"{ISSUER}/authorize"

    def listen(self):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def visit(self, address):
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        self.visits.append(query)
        await self.asked.wait()
        answer = {"state": query["state"], **({"error": self.refusal} if self.refusal else {"code": "k"})}
        return f"{self.uri}?{urlencode(answer)}"

    def grants(self):
        return [form["grant_type"] for form in self.forms]

    def session(self, **options):
        oauth = OAuth(**{"user_agent": self, "client": CLIENT, "now": lambda: 1000.0, **options})
        return OAuthSession(oauth, SERVER, self, name="s")


async def renew(session, status=401, header="Bearer", used=None):
    try:
        await session.renew(status, header, used)
    except AuthorizationFailed as exc:
        return exc.code, exc.server
    return await session.access_token()


async def test_calls_that_wait_for_a_login_share_its_refusal_and_later_ones_ask_again():
    login = Login()
    session = login.session()
    login.refusal, login.asked = "access_denied", trio.Event()
    outcomes = []

    async def call():
        outcomes.append(await renew(session))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call)
        await wait_all_tasks_blocked()
        login.asked.set()
    assert outcomes == [("access_denied", "s")] * 3
    assert len(login.visits) == 1
    assert await renew(session) == ("access_denied", "s")
    login.refusal = None
    assert await renew(session) == "t1"
    assert len(login.visits) == 3


async def test_a_renewal_after_the_token_was_replaced_does_nothing():
    login = Login()
    session = login.session()
    assert await renew(session) == "t1"
    assert await renew(session, used=None) == "t1"
    assert await renew(session, used="t0") == "t1"
    assert await renew(session, used="t1") == "t2"
    assert login.grants() == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize(("later", "asked"), [(599.0, False), (600.0, True)])
async def test_a_person_is_asked_five_times_in_ten_minutes_at_most(later, asked, autojump_clock):
    login = Login()
    login.token = {}
    session = login.session()
    for number in range(5):
        assert await renew(session, used=await session.access_token()) == f"t{number + 1}"
    await trio.sleep(later)
    assert await renew(session, used="t5") == ("t6" if asked else ("", "s"))
    assert len(login.visits) == 5 + asked


async def test_a_refresh_token_is_kept_until_the_server_sends_another():
    login = Login()
    session = login.session()
    await renew(session)
    for sent, next_sent in ((None, "r"), ("other", "r"), (None, "other")):
        login.token = {"refresh_token": sent}
        await renew(session, used=await session.access_token())
        assert login.forms[-1]["refresh_token"] == next_sent


@pytest.mark.parametrize(
    ("configured", "header", "asked"),
    [
        ((), "Bearer", "of-resource"),
        ((), 'Bearer scope="wanted"', "wanted"),
        (("mine",), "Bearer", "mine"),
        (("mine",), 'Bearer scope="wanted mine"', "mine wanted"),
    ],
)
async def test_the_scopes_of_the_challenge_precede_those_of_the_resource(configured, header, asked):
    login = Login()
    login.resource["scopes_supported"] = ["of-resource"]
    session = login.session(scopes=configured)
    assert await renew(session, header=header) == "t1"
    assert login.visits[0]["scope"] == asked


STORED = Token(access_token="stored", refresh_token="r0", expires_at=1030.0)


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({}, "t1"),
        ({"expires_at": 1030.5}, "stored"),
        ({"expires_at": None}, "stored"),
        ({"refresh_token": None}, "stored"),
    ],
)
async def test_a_stored_token_is_renewed_within_30_seconds_of_its_end(change, sent):
    login, store = Login(), MemoryTokenStore()
    await store.save(SERVER, Credentials(issuer=ISSUER, client=CLIENT, token=attrs.evolve(STORED, **change)))
    session = login.session(store=store)
    assert await session.access_token() == sent
    assert login.grants() == (["refresh_token"] if sent == "t1" else [])
    assert (await store.load(SERVER)).token.access_token == sent


@pytest.mark.parametrize("trouble", ["status", "moved"])
async def test_a_token_that_cannot_be_renewed_early_is_sent_as_it_is(trouble):
    login, store = Login(), MemoryTokenStore()
    await store.save(SERVER, Credentials(issuer=ISSUER, client=CLIENT, token=STORED))
    if trouble == "status":
        login.token_status = 503
    else:
        login.resource["authorization_servers"] = ["https://other.example"]
    session = login.session(store=store)
    assert await session.access_token() == "stored"
    assert login.grants() == (["refresh_token"] if trouble == "status" else [])


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ('Bearer error="insufficient_scope", scope="a"', None),
        ("Bearer", None),
        ('Bearer error="forbidden"', "forbidden"),
    ],
)
async def test_a_403_asks_for_more_scopes_unless_it_has_another_reason(header, code):
    login = Login()
    session = login.session()
    assert await renew(session) == "t1"
    login.resource["scopes_supported"] = ["b"]
    assert await renew(session, status=403, header=header, used="t1") == ((code, "s") if code else "t2")
    # Scopes that were asked for already are not asked for again.
    if code is None:
        assert await renew(session, status=403, header=header, used="t2") == ("insufficient_scope", "s")
        assert len(login.visits) == 2
