"""Whether the packages of a running server are there: the extra ``serve``."""

from __future__ import annotations

import sys

from potstill.errors import MissingExtra


def needs_packages() -> None:
    """Raises ``MissingExtra`` where the server's packages are not installed."""
    try:
        import httptools  # noqa: F401
        import uvicorn  # noqa: F401

        if sys.platform != "win32":
            import uvloop  # noqa: F401
    except ImportError:
        raise MissingExtra("The gateway", "serve") from None
