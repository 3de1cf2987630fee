"""A request that failed leaves no cycle behind: its bodies are freed at once, not when the garbage collector comes."""

from __future__ import annotations

import gc
import time

import pytest
from upstream_double import CLOSE, END, RESET, STREAM, Upstream, chat_event, chunk, reply

from potstill.serve.upstreams.transfer import Transfer
from potstill.serve.work import Work

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**BODY, "stream": True}
FAULTS = {
    "429": reply({"error": {"message": "slow down", "type": "rate_limit_error"}}, 429),
    "500": reply({"error": {"message": "broken"}}, 500),
    "not JSON": reply(b"<html>"),
    "no answer": [RESET],
    "a stream without an event": [STREAM, CLOSE],
    "half a stream": [STREAM, chunk(chat_event({"role": "assistant", "content": "he"})), CLOSE],
    "an unfinished stream": [STREAM, chunk(chat_event({"content": "he"})), END],
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_failed_requests_are_freed_without_the_collector(start, fault: str, path: str) -> None:
    with Upstream(lambda request: FAULTS[fault]) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        body = {**(STREAMED if "stream" in fault else BODY), "max_tokens": 9}
        gateway.post(path, body)
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                gateway.post(path, body)
            left = _left(5.0)
        finally:
            gc.enable()
    assert left <= 1  # the last one of the connection


def _left(seconds: float) -> int:
    """Requests that are still there, once those have had their time that are under way."""
    until = time.monotonic() + seconds
    while True:
        left = sum(isinstance(one, Work | Transfer) for one in gc.get_objects())
        if left <= 1 or time.monotonic() > until:
            return left
        time.sleep(0.05)
