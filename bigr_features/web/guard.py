"""What every request passes first: host, origin, token, size and pace; and the headers that every answer has."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import problem
from .limits import Limits

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
METHODS = ("GET", "HEAD", "POST", "DELETE")
TOKEN_HEADER = "x-bigr-token"
LOCAL = ("127.0.0.1", "localhost", "::1")


class Guard:
    """An ASGI application around another one.

    Parameters
    ----------
    app : ASGI application
    token : str
        What a browser has to know: in the address at first, then in a cookie; or a program, in the header `X-Bigr-Token`.
    hosts : tuple of str
        Names under which this server may be called; "*" takes every number of an address and the name of this machine, but no other name,
        so that a foreign page cannot rebind its own name to this server.
    limits : Limits
    upload_path : str
        The one path that takes `limits.upload_bytes`.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: tuple[str, ...] = LOCAL, limits: Limits | None = None, upload_path: str = ""):
        self.app, self.token, self.hosts, self.limits, self.upload_path = app, token, hosts, limits or Limits(), upload_path
        self.cookie = f"bigr_{hashlib.sha256(token.encode()).hexdigest()[:8]}"  # servers on other ports have their own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        in_address = self._in_address(scope)
        refusal = self._refusal(scope, headers, in_address)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                extra = dict(HEADERS) if b"cache-control" in own else {**HEADERS, "cache-control": "no-store"}
                if in_address and refusal is None:
                    extra["set-cookie"] = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                if refusal is not None and scope["method"] == "POST":
                    extra["connection"] = "close"  # what it would have sent is not read
                pairs = [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
                message = {**message, "headers": [*message["headers"], *pairs]}
            await send(message)

        if refusal is not None:
            await problem(*refusal)(scope, receive, answer)
        else:
            await self.app(scope, self._counted(scope, receive), answer)

    def _refusal(self, scope: Scope, headers: dict[str, str], in_address: bool) -> tuple[int, str] | None:
        """Status and sentence, or None."""
        host = headers.get("host", "")
        if not self._is_own(_name_of(host)):
            return 421, f"this server is not called {host[:80]!r}; open the address that it printed."
        if scope["method"] not in METHODS:
            return 405, f"the method {scope['method'][:20]} is not known here."
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "the request comes from another page."
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if foreign and (scope["path"] != "/" or headers.get("sec-fetch-mode") != "navigate"):
            return 403, "the request comes from another page."
        by_header = self._is_token(headers.get(TOKEN_HEADER, ""))
        if not (by_header or in_address or self._is_token(self._in_cookie(headers.get("cookie", "")))):
            return 403, "the token is missing or wrong; open the address that `bigr serve` printed, as a whole."
        if scope["method"] in ("POST", "DELETE") and not by_header and origin is None and headers.get("sec-fetch-site") != "same-origin":
            return 403, "the request does not say that it comes from this page (no Origin)."
        most = self._most(scope)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > most:
            return 413, f"the request has {length[:20]} bytes; at most {most:,} are taken."
        return None

    def _most(self, scope: Scope) -> int:
        return self.limits.upload_bytes if scope["path"] == self.upload_path else self.limits.json_bytes

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """The body in pieces, as long as it is within its limits of size and time."""
        most, seen = self._most(scope), 0
        end: float | None = None

        async def counted() -> Message:
            nonlocal seen, end
            if end is None and scope["method"] == "POST":
                end = asyncio.get_running_loop().time() + self.limits.body_seconds
            if end is None or end == -1:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.001, end - asyncio.get_running_loop().time()))
            except asyncio.TimeoutError:
                raise HTTPException(408, f"the request did not arrive within {self.limits.body_seconds:g} s.") from None
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, f"the request has more than {most:,} bytes, which is the most that is taken.")
            if not message.get("more_body"):
                end = -1
            return message

        return counted

    def _is_own(self, name: str) -> bool:
        if "*" not in self.hosts:
            return name in self.hosts
        try:
            ipaddress.ip_address(name)
            return True
        except ValueError:
            return name in (*LOCAL, socket.gethostname().lower(), socket.getfqdn().lower())

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def _in_address(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return scope["path"] == "/" and self._is_token(given)

    def _in_cookie(self, header: str) -> str:
        try:
            found = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return ""
        return "" if found is None else found.value


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
