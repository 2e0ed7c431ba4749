"""OAuth 2.1 for one MCP server: discovers, requests, renews and extends tokens, and sends them nowhere else.

The rules, by revisions 2025-11-25 and 2026-07-28:

* The authorization server is the one that the resource's metadata names; its metadata must be of the same issuer.
* Codes are bound by PKCE (S256), to the state, and to the issuer by the `iss` parameter (RFC 9207).
* Tokens are requested for the resource's URL (RFC 8707), stored by it, and sent only to it.
* A registration and a refresh token belong to their issuer: with another issuer the client starts from the beginning.
* Only one renewal runs at a time; calls that wait for it share its outcome.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlencode

import attrs
import trio

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp.auth.addresses import canonical_resource, shown_address
from clawft_trio.mcp.auth.challenge import Challenge, bearer_challenge
from clawft_trio.mcp.auth.discovery import Discovered, discover_authorization
from clawft_trio.mcp.auth.http import OAuthHttp
from clawft_trio.mcp.auth.pkce import challenge_of, new_verifier
from clawft_trio.mcp.auth.records import Credentials, OAuthClient, Token
from clawft_trio.mcp.auth.redirect import code_of
from clawft_trio.mcp.auth.store import MemoryTokenStore, TokenStore
from clawft_trio.mcp.auth.tokens import register, request_token
from clawft_trio.mcp.auth.user_agent import Redirect, UserAgent
from clawft_trio.net import AddressPolicy

_MAX_SCOPES = 100
"""Largest number of scopes in one request; no server needs as many."""

_EXPIRES_SOON = 30.0
"""Seconds before the expiry at which a token is renewed, so that it does not expire during a request."""

_MOST_LOGINS = 5
_LOGIN_WINDOW = 600.0
"""A person is asked at most `_MOST_LOGINS` times within this number of seconds: a hostile server refuses each token."""

# RFC 6749, 3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")

_OFFLINE = "offline_access"


def _epoch_seconds() -> float:
    return datetime.now(UTC).timestamp()


@attrs.frozen(kw_only=True)
class OAuth:
    """How a client logs in at an MCP server that requires a login.

    Args:
      user_agent: opens URLs for a person; None: there is no user to ask, so only stored tokens and client credentials
        are used.
      client: an existing registration. Without one the client's metadata document is used, if the server accepts it, or
        the client registers itself.
      grant: `authorization_code` asks a person, `client_credentials` needs *client* with a secret or a key.
      client_metadata_url: URL of the client's metadata document, which is its client id.
      client_name: name under which the client registers itself.
      scopes: scopes to request in addition to those that the server requires.
      store: storage of the tokens.
      interaction: seconds that a person has for the login; the clocks of calls are stopped during it.
      policy: which addresses may be reached for metadata and tokens. None: public addresses, and special ones of the
        same kind as the MCP server's (loopback for a server on loopback, private for one in a private network). Through
        a proxy, those that the proxy allows.
      now: returns calendar time in epoch seconds.
    """

    user_agent: UserAgent | None = None
    client: OAuthClient | None = None
    grant: Literal["authorization_code", "client_credentials"] = "authorization_code"
    client_metadata_url: str = ""
    client_name: str = "clawft-trio"
    scopes: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    store: TokenStore = attrs.field(factory=MemoryTokenStore)
    interaction: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    policy: AddressPolicy | None = None
    now: Callable[[], float] = attrs.field(default=_epoch_seconds, repr=False)


class OAuthSession:
    """The login at one MCP server, as long as a connection to it.

    Args:
      oauth: how to log in.
      address: URL of the MCP server.
      http: connections to authorization servers.
      name: name of the MCP server, in errors.
      hold_clocks: context manager that is entered while a person is asked.
    """

    def __init__(
        self,
        oauth: OAuth,
        address: str,
        http: OAuthHttp,
        *,
        name: str = "",
        hold_clocks: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._oauth = oauth
        self._address = address
        self._resource = canonical_resource(address)
        self._http = http
        self._name = name
        self._hold_clocks = hold_clocks
        self._loaded = False
        self._credentials: Credentials | None = None
        #: what the store contained when it was last read or written here
        self._stored: Credentials | None = None
        self._logins: deque[float] = deque(maxlen=_MOST_LOGINS)
        self._found: Discovered | None = None
        self._lock = trio.Lock()
        self._renewals = 0
        self._failure: AuthorizationFailed | None = None

    def __repr__(self) -> str:
        return f"<OAuthSession for {self._resource}: {'logged in' if self._token is not None else 'no token'}>"

    @property
    def _token(self) -> Token | None:
        return None if self._credentials is None else self._credentials.token

    async def access_token(self) -> str | None:
        """Return the token to send, renewed if it expires soon; None when there is none.

        Raises:
          StoreError: the stored tokens cannot be read.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        if not self._loaded:
            async with self._lock:
                if not self._loaded:
                    self._credentials = await self._load()
                    self._loaded = True
        token = self._token
        ends = None if token is None else token.expires_at
        if token is not None and ends is not None and ends - _EXPIRES_SOON <= self._oauth.now():
            await self._refresh_early(token)
            token = self._token
        return None if token is None else token.access_token

    async def renew(self, status: int, header: str, used: str | None) -> None:
        """Get a token to replace *used*, to which the server has responded with 401 or 403.

        Args:
          status: 401 or 403.
          header: the response's `WWW-Authenticate`.
          used: the access token of the request; None if it had none.

        Raises:
          AuthorizationFailed: no token can be obtained.
          StoreError: the token cannot be stored.

        Cancellation: the login is abandoned; another waiting request starts a new one.
        """
        seen = self._renewals
        async with self._lock:
            if (None if self._token is None else self._token.access_token) != used:
                return
            if self._renewals != seen and self._failure is not None:
                # Another request waited for the same login, which has failed: the person is not asked again.
                raise AuthorizationFailed(str(self._failure), code=self._failure.code, server=self._name)
            if await self._adopt_stored():
                return
            try:
                await self._renew(status, bearer_challenge(header) or Challenge("bearer", {}))
            except AuthorizationFailed as exc:
                self._renewals += 1
                exc.server = exc.server or self._name
                self._failure = exc
                raise
            self._renewals += 1
            self._failure = None

    def redact(self, text: str) -> str:
        """Return *text* with the secrets that were sent masked."""
        token = self._token
        client = None if self._credentials is None else self._credentials.client
        for secret in (
            token and token.access_token,
            token and token.refresh_token,
            client and client.client_secret,
        ):
            if secret:
                text = text.replace(secret, "***")
        return text

    async def _renew(self, status: int, challenge: Challenge) -> None:
        issuer = "" if self._oauth.client is None else self._oauth.client.issuer or ""
        found = await discover_authorization(
            self._http, self._address, challenge.params.get("resource_metadata", ""), issuer
        )
        self._found = found
        kept = self._credentials
        if kept is not None and kept.issuer != found.server.issuer:
            # Credentials of another issuer are not used here.
            self._refuse_rebinding(found)
            kept = None
        scopes = self._scopes(challenge, found, kept)
        if status == 403:
            if challenge.params.get("error", "insufficient_scope") != "insufficient_scope":
                raise AuthorizationFailed("the server forbids this", code=challenge.params.get("error", "")[:60])
            if kept is not None and set(scopes) <= set(kept.requested):
                raise AuthorizationFailed(
                    "the server wants scopes that were asked for already", code="insufficient_scope"
                )
        # Another process may have used the refresh token meanwhile, which ends it at many servers.
        elif (
            kept is not None
            and kept.token is not None
            and (await self._refresh(kept, kept.token, found) or await self._adopt_stored())
        ):
            return
        await self._log_in(found, scopes)

    def _refuse_rebinding(self, found: Discovered) -> None:
        client = self._oauth.client
        if client is not None and client.issuer is None:
            raise AuthorizationFailed(
                f"the authorization server is now {shown_address(found.server.issuer)}; "
                "the client was registered at another"
            )

    def _scopes(self, challenge: Challenge, found: Discovered, kept: Credentials | None) -> tuple[str, ...]:
        wanted = [*(() if kept is None else kept.requested), *self._oauth.scopes]
        wanted += challenge.scopes or (found.scopes if not self._oauth.scopes else ())
        if self._oauth.grant == "authorization_code" and _OFFLINE in found.server.scopes_supported:
            wanted.append(_OFFLINE)
        return _distinct(wanted)

    async def _refresh_early(self, token: Token) -> None:
        async with self._lock:
            kept = self._credentials
            if kept is None or kept.token is not token or token.refresh_token is None or await self._adopt_stored():
                return
            try:
                found = self._found or await discover_authorization(self._http, self._address, "", kept.issuer)
                self._found = found
                if found.server.issuer == kept.issuer:
                    await self._refresh(kept, token, found)
            except AuthorizationFailed:
                return  # the token may still be valid; otherwise the server's response decides

    async def _refresh(self, kept: Credentials, token: Token, found: Discovered) -> bool:
        """Use the refresh token; return whether there is a new token.

        Raises:
          AuthorizationFailed: the server failed, so that the refresh token may still be valid.
        """
        if token.refresh_token is None:
            await trio.lowlevel.checkpoint()
            return False
        client = self._oauth.client or kept.client
        form = {"grant_type": "refresh_token", "refresh_token": token.refresh_token, "resource": found.resource}
        try:
            new = await request_token(self._http, found.server, client, form, asked=token.scopes, now=self._oauth.now)
        except AuthorizationFailed as exc:
            if exc.retryable:
                raise
            return False
        new = attrs.evolve(new, refresh_token=new.refresh_token or token.refresh_token)
        await self._keep(attrs.evolve(kept, token=new))
        return True

    async def _log_in(self, found: Discovered, scopes: tuple[str, ...]) -> None:
        if self._oauth.grant == "client_credentials":
            client, token = await self._by_credentials(found, scopes)
        else:
            client, token = await self._by_person(found, scopes)
        await self._keep(Credentials(issuer=found.server.issuer, client=client, token=token, requested=scopes))

    async def _by_credentials(self, found: Discovered, scopes: tuple[str, ...]) -> tuple[OAuthClient, Token]:
        client = self._oauth.client
        if client is None:
            raise AuthorizationFailed("client credentials need a client with a secret or a key")
        form = {"grant_type": "client_credentials", "resource": found.resource, **_scope(scopes)}
        token = await request_token(self._http, found.server, client, form, asked=scopes, now=self._oauth.now)
        return client, token

    async def _by_person(self, found: Discovered, scopes: tuple[str, ...]) -> tuple[OAuthClient, Token]:
        agent = self._oauth.user_agent
        if agent is None:
            raise AuthorizationFailed("the server requires a login, and no user agent is set")
        if not found.server.authorization_endpoint:
            raise AuthorizationFailed("the authorization server has no authorization endpoint")
        if found.has_metadata and "S256" not in (found.server.code_challenge_methods_supported or ()):
            # Without PKCE a stolen code is as good as a token; metadata without S256 may be a downgrade attack.
            raise AuthorizationFailed("the authorization server does not support PKCE with S256")
        self._count_login()
        async with agent.listen() as redirect:
            client = await self._client(found, redirect.uri, scopes)
            verifier = new_verifier()
            code = await self._ask(redirect, found, client, scopes, verifier)
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect.uri,
                "code_verifier": verifier,
                "resource": found.resource,
            }
            token = await request_token(self._http, found.server, client, form, asked=scopes, now=self._oauth.now)
        return client, token

    def _count_login(self) -> None:
        now = trio.current_time()
        if len(self._logins) == _MOST_LOGINS and self._logins[0] > now - _LOGIN_WINDOW:
            raise AuthorizationFailed(f"the server required {_MOST_LOGINS} logins in a row, and refuses their tokens")
        self._logins.append(now)

    async def _client(self, found: Discovered, redirect_uri: str, scopes: tuple[str, ...]) -> OAuthClient:
        await trio.lowlevel.checkpoint()
        oauth = self._oauth
        if oauth.client is not None:
            return oauth.client
        if oauth.client_metadata_url and found.server.client_id_metadata_document_supported:
            return OAuthClient(client_id=oauth.client_metadata_url, auth_method="none", issuer=found.server.issuer)
        if not found.server.registration_endpoint:
            raise AuthorizationFailed("the authorization server registers no clients: one has to be configured")
        return await register(
            self._http, found.server, name=oauth.client_name, redirect_uri=redirect_uri, scopes=scopes
        )

    async def _ask(
        self, redirect: Redirect, found: Discovered, client: OAuthClient, scopes: tuple[str, ...], verifier: str
    ) -> str:
        state = secrets.token_urlsafe(24)
        query = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": redirect.uri,
            "state": state,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            "resource": found.resource,
            **_scope(scopes),
            **({"prompt": "consent"} if _OFFLINE in scopes else {}),
        }
        endpoint = found.server.authorization_endpoint
        self._http.check_visit(endpoint, "authorization endpoint")
        address = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
        try:
            with self._hold_clocks(), trio.fail_after(self._oauth.interaction):
                answer = await redirect.visit(address)
        except trio.TooSlowError:
            raise AuthorizationFailed(f"the login was not finished within {self._oauth.interaction:g} s") from None
        return code_of(answer, redirect.uri, state, found.server)

    async def _load(self) -> Credentials | None:
        kept = self._stored = await self._oauth.store.load(self._resource)
        client = self._oauth.client
        if kept is None or client is None:
            return kept
        # A token of another client is useless for this one.
        return attrs.evolve(kept, client=client) if kept.client.client_id == client.client_id else None

    async def _adopt_stored(self) -> bool:
        """Use credentials that another client has stored since the last read; return whether there are any."""
        known = self._stored
        found = await self._load()
        if self._stored == known or found is None or found.token is None:
            return False
        self._credentials = found
        return True

    async def _keep(self, credentials: Credentials) -> None:
        self._credentials = credentials
        # A configured secret is not stored a second time.
        client = OAuthClient(client_id=credentials.client.client_id) if self._oauth.client else credentials.client
        stored = attrs.evolve(credentials, client=client)
        await self._oauth.store.save(self._resource, stored)
        self._stored = stored


def _scope(scopes: tuple[str, ...]) -> dict[str, str]:
    return {"scope": " ".join(scopes)} if scopes else {}


def _distinct(scopes: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in scopes if _SCOPE.fullmatch(one)))[:_MAX_SCOPES]
