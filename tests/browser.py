"""A real Chromium, driven through its DevTools protocol: opens pages, presses keys, collects messages and requests.

For tests marked ``browser``. What it knows: the protocol's few commands that the tests need. What it does not do:
install Chromium (Debian: ``apt-get install chromium``).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_KEYS = {
    "ArrowDown": 40, "ArrowUp": 38, "ArrowRight": 39, "ArrowLeft": 37, "Enter": 13, "Tab": 9, "Home": 36, "End": 35,
    "j": 74, "k": 75,
}  # fmt: skip
_PATIENCE_S = 60.0


def chromium() -> str:
    """The browser's program; skips where there is none."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


@dataclass
class Page:
    """An open tab. ``messages``: console, log, uncaught exceptions; ``requests``: every address that was asked for."""

    socket: aiohttp.ClientWebSocketResponse
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _sent: int = 0
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        async for message in self.socket:
            event = json.loads(message.data)
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event)
            else:
                self._note(event["method"], event["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(str([value.get("value") for value in params["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and what it gives."""
        number = self._sent = self._sent + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": params})
        event = await asyncio.wait_for(answer, _PATIENCE_S)
        assert "error" not in event, f"{method}: {event['error']}"
        result: dict[str, Any] = event["result"]
        return result

    async def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._loaded.clear()
        await self.send("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), _PATIENCE_S)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression. It runs outside of the page's security policy."""
        result = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        async with asyncio.timeout(_PATIENCE_S):
            while not await self.evaluate(expression):  # noqa: ASYNC110 - the page cannot tell
                await asyncio.sleep(0.02)

    async def press(self, key: str) -> None:
        """Press and release a key where the focus is."""
        code = _KEYS[key]
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        known = {"key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code, "code": key}
        await self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **known)

    async def click(self, x: float, y: float) -> None:
        """Press and release the left button at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def look(self, *, width: int, height: int = 900, dark: bool = False, script: bool = True) -> None:
        """Show the page as a window or (below 600 pixels) a phone does, in light or dark, with or without scripts."""
        phone = width < 600
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        await self.send("Emulation.setScriptExecutionDisabled", value=not script)

    async def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        taken = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])


@asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    """A tab in a fresh browser without any profile; the browser is ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="potstill-browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", "about:blank",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                address = await _tab(session, Path(profile) / "DevToolsActivePort", process)
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.create_task(page.listen())
                    for domain in ("Page", "Runtime", "Log", "Network"):
                        await page.send(f"{domain}.enable")
                    yield page
                    listening.cancel()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _tab(session: aiohttp.ClientSession, port_file: Path, process: asyncio.subprocess.Process) -> str:
    """The socket of the first tab, once the browser says where it listens."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            assert process.returncode is None, f"Chromium ended with {process.returncode}"
            lines = _lines(port_file)
            if len(lines) == 2:
                async with session.get(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                    tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
                if tabs:
                    return str(tabs[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
