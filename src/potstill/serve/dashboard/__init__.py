"""The dashboard's files under ``/``: one page, its scripts and its style, as they lie beside this module.

What it knows: which files there are, and the headers that keep a browser from running or loading anything else. What it
does not do: data (the admin API has it, for who holds the admin key), or templates: the files hold nothing of a user.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from potstill.serve.clients.client import Message, Send

TYPES = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "svg": b"image/svg+xml",
}
NAMES = (
    "index.html", "style.css", "icon.svg", "theme.js", "app.js", "api.js", "dom.js", "format.js", "keys.js",
    "overview.js", "plot.js", "routes.js", "episodes.js", "episode.js", "steps.js", "books.js", "tenants.js", "live.js",
)  # fmt: skip
PATHS = {"/": "index.html", **{f"/dashboard/{name}": name for name in NAMES if name != "index.html"}}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing inline, nothing evaluated, nothing from elsewhere, in no frame; no script of ours may write markup at all."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)


class File(NamedTuple):
    content: bytes
    etag: bytes
    content_type: bytes


@cache
def read(name: str) -> File:
    """One of ``NAMES``."""
    content = files(__name__).joinpath(name).read_bytes()
    etag = hashlib.blake2b(content, digest_size=12).hexdigest()
    return File(content, f'"{etag}"'.encode(), TYPES[name.rpartition(".")[2]])


def handles(method: str, path: str) -> bool:
    """Whether a request is for one of the files."""
    return path in PATHS and method in ("GET", "HEAD")


async def serve(scope: Message, send: Send) -> None:
    """Answer a request that ``handles`` takes: the file, or 304 where the browser has it."""
    file = read(PATHS[scope["path"]])
    sent = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
    known = file.etag in [one.strip().removeprefix(b"W/") for one in sent.split(b",")]
    body = b"" if known or scope["method"] == "HEAD" else file.content
    headers = [*HEADERS, (b"etag", file.etag)]
    if not known:
        headers += [(b"content-type", file.content_type), (b"content-length", str(len(file.content)).encode())]
    await send({"type": "http.response.start", "status": 304 if known else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
