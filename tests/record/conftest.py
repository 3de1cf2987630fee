"""A provider on a free port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from sdk_provider import Provider


@pytest.fixture
def provider() -> Iterator[type[Provider]]:
    class Fresh(Provider):
        """With lists of its own."""

    Fresh.seen, Fresh.posted = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    Fresh.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Fresh
    server.shutdown()
    server.server_close()
