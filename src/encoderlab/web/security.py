"""What stands before Gradio: who may ask, what may not be asked for, and what a browser may load.

A plain ASGI layer. Refuses other host names on a page for this machine alone, addresses that would
fetch from elsewhere, and uploads when there is no room.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from encoderlab.web.user_sessions import UserSessions

# Fetching for a visitor from an address of their choice, and what only developers of Gradio need.
REFUSED = ("/proxy=", "/monitoring", "/vibe-", "/dev/reload")
HEADERS = {
    # Everything comes from here: no fonts, scripts or pictures of others.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class SecurityMiddleware:
    """The layer.

    Args:
        hosts: the names under which the page may be asked for; empty: any.
    """

    def __init__(self, app: Any, visitors: UserSessions, hosts: tuple[str, ...] = ()) -> None:
        self.app, self.visitors, self.hosts = app, visitors, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request, or lets it through."""
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
    named = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    if named.startswith("["):
        return named[1:].partition("]")[0]
    return named.partition(":")[0]


def _with_headers(send: Any) -> Callable[[Any], Any]:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


async def _answer(send: Any, status: int, words: str) -> None:
    body = json.dumps({"detail": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
