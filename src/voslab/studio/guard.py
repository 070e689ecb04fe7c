"""Refuses requests that do not come from the page: foreign hosts and origins, missing tokens, large bodies."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "voslab_token"
_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """ASGI middleware in front of the pages.

    A page of another site can send requests to a server on this machine, also under a host name of its own. So `Host`
    must be one of `hosts`, and `Origin`, which browsers add, must agree with it.

    Args:
        app: The application.
        hosts: Host names under which the server is reached; empty if any name may be used, which needs a token.
        token: What the address of the page must hold as `token=…` on the first visit; None: nothing.
        limit: Largest body in bytes.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None, limit: int) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._token = token
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = QueryParams(scope["query_string"]).get("token", "")
        if refusal := self._refusal(headers, given):
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                # The rest is not read: to the application, the client is gone.
                return {"type": "http.disconnect"}
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if self._token is not None and given:
                    cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        await self._app(scope, limited, marked)

    def _refusal(self, headers: Headers, given: str) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._hosts and name not in self._hosts:
            return 421, f"this server is not {name[:80]}"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests of other sites are refused"
        if self._token is not None:
            held = cookie_parser(headers.get("cookie", "")).get(_COOKIE, "")
            if not any(secrets.compare_digest(one.encode(), self._token.encode()) for one in (given, held)):
                return 401, "open the address that the program printed: it holds the token"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit:
            return 413, f"bodies of requests may have {self._limit >> 20} MB at most"
        return None
