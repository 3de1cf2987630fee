"""Sentence embeddings from an endpoint that speaks OpenAI's ``/v1/embeddings``.

What it knows: one POST in batches, retries, which failure is which error. What it does not do: caching
(``embedders.CachedEmbedder``), chat. Synchronous, safe in threads (one connection a request).

The key comes from one environment variable and is sent to the named host only: redirects are refused.
"""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import Message
from typing import Any

import numpy as np

from potstill.errors import (
    BadResponse,
    ConfigError,
    KeyRefused,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
)
from potstill.protocols import FloatMatrix
from potstill.retrieval.embedders import unit_rows

KEY_VARIABLE = "POTSTILL_EMBEDDINGS_KEY"
MAX_RESPONSE_BYTES = 256 * 1024 * 1024
MAX_RETRY_AFTER_S = 60.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        return None


class HttpEmbedder:
    """Embeds through ``POST {url}/embeddings``. ``url`` ends in ``/v1`` or in ``/embeddings``.

    Raises ``KeyRefused`` (401, 403), ``RateLimited`` (429 after all attempts), ``ModelTimeout``, ``ModelUnavailable``
    (no connection, 5xx after all attempts), ``BadResponse`` for anything that is not the dialect.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str = KEY_VARIABLE,
        timeout_s: float = 30.0,
        attempts: int = 4,
        batch: int = 64,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"'{url}' is not an http(s) address. Type for example: http:http://localhost:8080/v1#name"
            )
        self._url = url.rstrip("/") if url.rstrip("/").endswith("/embeddings") else url.rstrip("/") + "/embeddings"
        self._model = model
        self._key_variable = key_variable
        self._timeout_s, self._attempts, self._batch, self._sleep = timeout_s, max(1, attempts), batch, sleep
        self._opener = urllib.request.build_opener(_NoRedirect())
        self._dimension: int | None = None

    @property
    def name(self) -> str:
        return f"http:{self._model}"

    @property
    def dimension(self) -> int:
        """Known after the first answer; asking earlier sends one request."""
        if self._dimension is None:
            self.embed(["x"])
        assert self._dimension is not None
        return self._dimension

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        parts = [self._post(texts[start : start + self._batch]) for start in range(0, len(texts), self._batch)]
        return unit_rows(np.concatenate(parts))

    def _post(self, texts: Sequence[str]) -> FloatMatrix:
        body = json.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"}).encode()
        for attempt in range(1, self._attempts + 1):
            try:
                return self._parse(self._once(body), len(texts))
            except (RateLimited, ModelUnavailable, ModelTimeout) as problem:
                if attempt == self._attempts:
                    raise
                self._sleep(_wait_s(problem, attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = os.environ.get(self._key_variable)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer: bytes = response.read(MAX_RESPONSE_BYTES + 1)
        except urllib.error.HTTPError as problem:
            with problem:
                raise self._status_error(problem.code, problem.headers) from problem
        except TimeoutError as problem:
            raise ModelTimeout(f"{self._url} did not answer within {self._timeout_s:g} s.") from problem
        except urllib.error.URLError as problem:
            if isinstance(problem.reason, TimeoutError):
                raise ModelTimeout(f"{self._url} did not answer within {self._timeout_s:g} s.") from problem
            raise ModelUnavailable(f"{self._url} cannot be reached: {problem.reason}.") from problem
        except OSError as problem:
            raise ModelUnavailable(f"{self._url} broke the connection: {problem}.") from problem
        if len(answer) > MAX_RESPONSE_BYTES:
            raise BadResponse(f"{self._url} answered more than {MAX_RESPONSE_BYTES} bytes.")
        return answer

    def _status_error(self, status: int, headers: Message) -> ModelError:
        if status in (401, 403):
            return KeyRefused(f"{self._url} refused the key ({status}). Set {self._key_variable} to one that it takes.")
        error: ModelError
        if status == 429:
            error = RateLimited(f"{self._url} still limits the rate (429) after {self._attempts} attempts.")
        elif status >= 500:
            error = ModelUnavailable(f"{self._url} still fails ({status}) after {self._attempts} attempts.")
        else:
            return BadResponse(f"{self._url} answered status {status}: is '{self._model}' an embedding model there?")
        error.__dict__["retry_after"] = headers.get("Retry-After")
        return error

    def _parse(self, answer: bytes, expected: int) -> FloatMatrix:
        try:
            rows = sorted(json.loads(answer)["data"], key=lambda row: int(row["index"]))
            if [int(row["index"]) for row in rows] != list(range(expected)):
                raise ValueError(f"{len(rows)} embeddings for {expected} texts")
            matrix = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as problem:
            start = answer[:60].decode("utf-8", "replace")
            raise BadResponse(f"{self._url} answered no embeddings ({problem}): {start!r}") from problem
        if matrix.ndim != 2 or matrix.shape[1] == 0 or not np.isfinite(matrix).all():
            raise BadResponse(f"{self._url} answered embeddings of shape {matrix.shape} or with NaN.")
        if self._dimension not in (None, matrix.shape[1]):
            raise BadResponse(f"{self._url} changed its dimension from {self._dimension} to {matrix.shape[1]}.")
        self._dimension = int(matrix.shape[1])
        return matrix


def _wait_s(problem: Exception, attempt: int) -> float:
    """Seconds before the next attempt: what the endpoint said, else 0.5, 1, 2 ... with jitter."""
    try:
        return min(MAX_RETRY_AFTER_S, max(0.0, float(problem.__dict__.get("retry_after") or "")))
    except ValueError:
        return float(0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
