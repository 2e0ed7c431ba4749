"""State that a client of 2026-07-28 carries from one round of a call to the next, signed against tampering.

It contains the answers so far, the caller, the call and its expiry. It is not encrypted, because it contains only
answers of the same client. It can be replayed until it expires, by the same caller and for the same call only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

import attrs
import msgspec

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.types import JsonObject

MAX_STATE = 256 * 1024
"""Largest state in bytes. Every round carries it in both directions."""


class _State(msgspec.Struct, frozen=True):
    answers: dict[str, dict[str, object]]
    principal: str
    request: str
    expires: float


@attrs.frozen(kw_only=True)
class StateSigner:
    """Signs and checks the state of one call.

    Args:
      secret: key of the signature (HMAC-SHA256).
      principal: the caller.
      request: the call with its arguments, as returned by `request_digest`.
    """

    secret: bytes = attrs.field(repr=False)
    principal: str
    request: str

    def sign(self, answers: Mapping[str, JsonObject], *, expires: float) -> str:
        """Return the state with *answers*.

        Raises:
          PeerError: they are too large.
        """
        state = _State({key: dict(one) for key, one in answers.items()}, self.principal, self.request, expires)
        payload = base64.urlsafe_b64encode(msgspec.json.encode(state))
        if len(payload) > MAX_STATE:
            raise PeerError("the answers are too large to be carried in requestState", code=INVALID_PARAMS)
        return f"{payload.decode()}.{self._mac(payload)}"

    def verify(self, text: str, *, now: float) -> dict[str, JsonObject]:
        """Return the answers in *text*.

        Raises:
          PeerError: it was not signed here, for this caller and this call, or has expired.
        """
        payload, _, mac = text.partition(".")
        raw = payload.encode(errors="replace")
        if len(text) > 2 * MAX_STATE or not hmac.compare_digest(mac.encode(errors="replace"), self._mac(raw).encode()):
            raise _rejected()
        try:
            state = _decode(base64.b64decode(raw, altchars=b"-_", validate=True))
        except (ValueError, binascii.Error) as exc:
            raise _rejected() from exc
        if (state.principal, state.request) != (self.principal, self.request) or now > state.expires:
            raise _rejected()
        return dict(state.answers)

    def _mac(self, payload: bytes) -> str:
        return hmac.new(self.secret, payload, hashlib.sha256).hexdigest()


def request_digest(method: str, name: str, arguments: bytes) -> str:
    """Return a digest of a call, which binds state to it: the method, the name or URI, and the arguments as written."""
    return hashlib.sha256(b"\0".join((method.encode(), name.encode(errors="replace"), arguments))).hexdigest()


def _rejected() -> PeerError:
    return PeerError("requestState is not valid for this request", code=INVALID_PARAMS)


_decode = msgspec.json.Decoder(_State).decode
