"""The session with one server over HTTP: its id and revision, and the headers that carry them."""

from __future__ import annotations

import re

from clawft_trio.errors import ProtocolViolation
from clawft_trio.mcp.messages import Outgoing
from clawft_trio.mcp.transports.answer_stream import EVENTS, JSON
from clawft_trio.mcp.transports.param_headers import header_value
from clawft_trio.mcp.types import STATELESS_VERSION
from clawft_trio.net import HttpResponse

_SESSION_ID = re.compile(r"[\x21-\x7e]{1,512}")

# Methods whose target the header `Mcp-Name` repeats.
_NAMING = frozenset(("tools/call", "prompts/get", "resources/read"))


class HttpSession:
    """Id and revision of a session; both are empty before the handshake.

    Args:
      server: name of the server, in errors.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        #: empty where the server has no sessions
        self.id: str = ""
        #: revision of the protocol
        self.version: str = ""

    @property
    def stateless(self) -> bool:
        """Whether the server speaks 2026-07-28."""
        return self.version == STATELESS_VERSION

    def headers(self) -> dict[str, str]:
        """Return the headers of every request in the session."""
        headers = {}
        if self.version:
            headers["mcp-protocol-version"] = self.version
        if self.id:
            headers["mcp-session-id"] = self.id
        return headers

    def post_headers(self, frame: Outgoing) -> dict[str, str]:
        """Return the headers of the POST of *frame*. The request of a handshake sets the revision."""
        if frame.method == "server/discover":
            self.version = STATELESS_VERSION
        elif frame.method == "initialize":
            self.version = ""
        headers = {"content-type": JSON, "accept": f"{JSON}, {EVENTS}", **self.headers()}
        if self.stateless:
            headers["mcp-method"] = frame.method
            if frame.method in _NAMING:
                headers["mcp-name"] = header_value(frame.name)
            headers.update(frame.headers)
        return headers

    def note_version(self, version: str) -> None:
        """Keep the revision that the server has chosen."""
        self.version = version

    def note_response(self, frame: Outgoing, response: HttpResponse) -> None:
        """Keep the session id in the response to `initialize`.

        Raises:
          ProtocolViolation: it is not visible ASCII.
        """
        if frame.method != "initialize":
            return
        session = response.headers.get("mcp-session-id", "")
        if session and not _SESSION_ID.fullmatch(session):
            raise ProtocolViolation("the session id is not visible ASCII", server=self._server)
        self.id = session
