"""ASGI middleware in front of Gradio: which requests are refused, and what a browser may load.

Refuses other host names on a page for this machine alone, addresses that would make the server
fetch from elsewhere, and uploads when the room for them is used up.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from encoderlab.web.user_sessions import UserSessions

# Routes that fetch from an address of the visitor's choice, or serve developers of Gradio.
REFUSED = ("/proxy=", "/monitoring", "/vibe-", "/dev/reload")
HEADERS = {
    # Nothing is loaded from elsewhere: no fonts, scripts or images.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class SecurityMiddleware:
    """Refuses requests, and adds headers to all responses.

    Args:
        app: the application behind it.
        visitors: says whether there is room for uploads.
        hosts: the host names that are served; empty for any.
    """

    def __init__(self, app: Any, visitors: UserSessions, hosts: tuple[str, ...] = ()) -> None:
        self.app, self.visitors, self.hosts = app, visitors, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuses one request, or passes it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Any) -> tuple[int, str] | None:
        if self.hosts and _host(scope) not in self.hosts:
            return 403, "this page is for this machine alone"
        path = unquote(scope["path"])
        fetches = path.partition("file=")[2].lstrip("/").lower().startswith(("http:", "https:"))
        if fetches or any(word in path for word in REFUSED):
            return 403, "this page fetches nothing from elsewhere"
        if path.endswith("/upload") and scope["method"] == "POST" and self.visitors.is_full():
            return 413, "the room for uploads is used up; try again in some minutes"
        return None


def _host(scope: Any) -> str:
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    if host.startswith("["):  # IPv6
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _with_headers(send: Any) -> Callable[[Any], Any]:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


async def _answer(send: Any, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
