"""llama.cpp's server inside this process (``xllamacpp``), spoken to over its own loopback port.

Knows: how the server is started, asked, cancelled and stopped. It is asked over HTTP and not by function call because
only a dropped *stream* makes llama.cpp stop working: within a token while it writes, within ``BATCH_TOKENS`` while
it reads a prompt. Only this process holds the key to the port. Does not know prompts or replies (``local``).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from potstill.errors import (
    BadModelFile,
    BadResponse,
    ContextOverflow,
    MissingExtra,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
)

BATCH_TOKENS = 256
"""Prompt tokens per evaluation: a cancelled request stops after at most this many (about 2 s on two slow cores)."""
PROMPT_CACHE_MIB = 512
"""Memory for prompts of other conversations that were pushed out of the slots."""


class LlamaServer:
    """A running server for one model file. Safe to use from several tasks and event loops; close it when done."""

    def __init__(self, path: Path, *, threads: int, context_tokens: int, slots: int, alias: str = "") -> None:
        """``alias``: what answers call the model; without it they tell the file's path."""
        self.path = path
        self.slots = slots
        self._key = secrets.token_hex(16)
        self._server: Any = _start(path, threads, context_tokens, slots, self._key, alias)
        self.url: str = self._server.listening_address
        self._sync_lock = threading.Lock()
        self._sync: http.client.HTTPConnection | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    async def complete(self, path: str, body: dict[str, Any], timeout_s: float) -> list[dict[str, Any]]:
        """The events of a streamed answer, in order. Cancelling stops the work in the server.

        Raises ``ContextOverflow``, ``ModelTimeout``, ``BadResponse``, ``ModelUnavailable``.
        """
        streamed = {**body, "stream": True, "return_progress": True}
        try:
            async with asyncio.timeout(timeout_s):
                return [event async for event in self._events(path, streamed)]
        except TimeoutError:
            raise ModelTimeout(
                f"The local model {self.path.name} did not answer within {timeout_s:g} s. Allow more time, a shorter "
                f"prompt or more threads."
            ) from None

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A short question to the server (tokenize, apply-template): one JSON object."""
        async with self._asked(path, body) as response:
            return self._object(await response.text())

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """``post`` without an event loop (``get`` where there is no body), over one kept connection."""
        data = None if body is None else json.dumps(body)
        with self._sync_lock:
            if self._server is None:
                raise ModelUnavailable(f"The local model {self.path.name} was closed.")
            for last in (False, True):
                connection = self._sync or http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
                try:
                    connection.request("GET" if data is None else "POST", path, data, self.headers | _JSON)
                    response = connection.getresponse()
                    text, self._sync = response.read().decode(), connection
                    break
                except (http.client.HTTPException, OSError) as error:
                    connection.close()
                    self._sync = None
                    if last:
                        raise ModelUnavailable(f"The local model {self.path.name} is gone: {error!r}.") from error
        if response.status != 200:
            raise self._error(response.status, text)
        return self._object(text)

    async def aclose(self) -> None:
        """Stop the server and free its memory."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        with self._sync_lock:
            if self._sync is not None:
                self._sync.close()
            self._sync = self._server = None

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with self._asked(path, body) as response:
            async for line in _lines(response.content):
                if line.startswith(b"error:"):
                    raise self._error(500, line[6:].decode())
                if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                    continue
                event = self._object(line[5:].decode())
                if "error" in event:
                    raise self._error(500, json.dumps(event))
                if "prompt_progress" not in event or event.get("completion_probabilities"):
                    yield event

    @contextlib.asynccontextmanager
    async def _asked(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request on a connection of its own: the server closes them after a stream, and loops come and go."""
        if self._server is None:
            raise ModelUnavailable(f"The local model {self.path.name} was closed.")
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20) as session,
                session.post(self.url + path, json=body, headers=self.headers) as response,
            ):
                if response.status != 200:
                    raise self._error(response.status, await response.text())
                yield response
        except aiohttp.ClientError as error:
            raise ModelUnavailable(f"The local model {self.path.name} is gone: {error!r}.") from error

    def _object(self, text: str) -> dict[str, Any]:
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise BadResponse(f"llama.cpp answered something that is not JSON: {text[:200]!r}.") from error
        if not isinstance(parsed, dict):
            raise BadResponse(f"llama.cpp answered something that is no object: {text[:200]!r}.")
        return parsed

    def _error(self, status: int, text: str) -> ModelError:
        try:
            detail = json.loads(text).get("error", {})
        except (ValueError, AttributeError):
            detail = {}
        message = str(detail.get("message") or text[:200]) if isinstance(detail, dict) else text[:200]
        if isinstance(detail, dict) and detail.get("type") == "exceed_context_size_error":
            return ContextOverflow(
                f"The prompt has {detail.get('n_prompt_tokens')} tokens, {self.path.name} was opened with "
                f"{detail.get('n_ctx')}. Shorten the prompt or open it with a larger context_tokens."
            )
        if "ontext size" in message:
            return ContextOverflow(f"{self.path.name} ran out of context while it wrote: {message}.")
        if "empty grammar stack" in message:
            return BadResponse(
                f"{self.path.name} cannot write one of the admissible actions: its tokenizer lacks a character of it."
            )
        return BadResponse(f"llama.cpp refused the request with {status}: {message}.")


_JSON = {"Content-Type": "application/json"}


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (aiohttp's own line reader refuses long ones, and the last event repeats the prompt)."""
    rest = b""
    async for block in stream.iter_any():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def needs_llama_cpp() -> None:
    """Raises ``MissingExtra`` where its package is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra("A local model", "local")


def _start(path: Path, threads: int, context_tokens: int, slots: int, key: str, alias: str) -> Any:
    # Read when the OpenMP runtime loads: waiting threads sleep. Spinning, they cost 45 times the speed when busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise MissingExtra("A local model", "local") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens
    params.n_parallel = slots
    params.kv_unified = True
    params.n_batch = BATCH_TOKENS
    params.n_ubatch = BATCH_TOKENS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    if alias:
        params.model_alias = {alias}
    params.ui = False
    params.sse_ping_interval = 1
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise BadModelFile(
            f"llama.cpp cannot load {path}: {error}. Allowed are GGUF language models it supports."
        ) from error


class CpuMeter:
    """Shares this process's CPU seconds among the calls that run at the same time, so that their sum is the truth."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[int, float] = {}
        self._last = 0.0
        self._next = 0

    def start(self) -> int:
        with self._lock:
            self._share()
            self._next += 1
            self._active[self._next] = 0.0
            return self._next

    def stop(self, call: int) -> float:
        """CPU seconds of the call that ``start`` opened."""
        with self._lock:
            self._share()
            return self._active.pop(call, 0.0)

    def _share(self) -> None:
        now = time.process_time()
        for call in self._active:
            self._active[call] += (now - self._last) / len(self._active)
        self._last = now
