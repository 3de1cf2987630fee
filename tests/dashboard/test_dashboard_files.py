"""The dashboard's files and headers as any client gets them, without a browser."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from potstill.serve import dashboard
from potstill.serve.clients.client import Message

FOLDER = Path(str(files(dashboard)))
SCRIPTS = sorted(FOLDER.glob("*.js"))


async def ask(path: str, method: str = "GET", *headers: tuple[bytes, bytes]) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await dashboard.serve({"path": path, "method": method, "headers": headers}, send)
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], named, sent[1]["body"]


@pytest.mark.parametrize("path", sorted(dashboard.PATHS))
async def test_every_file_comes_with_its_type_and_headers_that_let_nothing_else_in(path: str) -> None:
    status, headers, body = await ask(path)
    assert status == 200
    assert body == (FOLDER / dashboard.PATHS[path]).read_bytes()
    assert headers["content-length"] == str(len(body))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in headers
    kinds = {"": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert headers["content-type"].startswith(kinds[Path(path).suffix])
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


async def test_a_file_that_a_browser_has_is_not_sent_again() -> None:
    _, headers, _ = await ask("/")
    for sent in (headers["etag"], f'"other", W/{headers["etag"]}'):
        status, again, body = await ask("/", "GET", (b"if-none-match", sent.encode()))
        assert (status, body) == (304, b"")
        assert again["content-security-policy"] == headers["content-security-policy"]
    assert (await ask("/", "GET", (b"if-none-match", b'"other"')))[0] == 200
    status, headers, body = await ask("/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


def test_only_the_dashboards_own_paths_are_served() -> None:
    assert dashboard.handles("GET", "/")
    for path in ("/dashboard/", "/dashboard/../admin.py", "/dashboard/__init__.py", "/index.html", "//"):
        assert not dashboard.handles("GET", path)
    assert not dashboard.handles("POST", "/")


def test_every_file_of_the_folder_is_served_and_none_is_missing() -> None:
    lying = {path.name for path in FOLDER.iterdir() if path.suffix not in (".py", "") and path.is_file()}
    assert lying == set(dashboard.NAMES)


def test_the_page_holds_no_script_style_or_handler_of_its_own() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:|https?://", page) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_writes_markup_or_evaluates_text(script: Path) -> None:
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\("
        r"|new Function|setHTML|\.srcdoc|document\.cookie|setTimeout\([\"'`]|\.style\b",
        script.read_text(),
    )
    assert found == []


def test_files_are_small_and_refer_to_nothing_elsewhere() -> None:
    for name in dashboard.NAMES:
        content = (FOLDER / name).read_bytes()
        assert len(content) < 32_000, name
        assert re.findall(rb"https?://(?!www\.w3\.org/2000/svg)", content) == []


def test_the_wheel_is_built_from_the_whole_package(repository: Path) -> None:
    """Hatchling takes every file of the package that git does not ignore."""
    told = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert told == {"packages": ["src/potstill"]}
