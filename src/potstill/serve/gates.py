"""Gates without tenants: everybody on one's own machine, or whoever holds the admin key.

What it knows: one key, and which keys are no secret. What it does not do: tenants, budgets, rates (``tenants``).
"""

from __future__ import annotations

import hmac
import ipaddress

from potstill.errors import ConfigError
from potstill.serve.parts import Admission
from potstill.serve.settings import Gateway
from potstill.wire.dialect import Problem

MIN_KEY_CHARACTERS = 16
MIN_DIFFERENT = 8
GUESSED = (
    "sk-1234",
    "sk-test",
    "admin",
    "changeme",
    "change-me",
    "default",
    "example",
    "password",
    "placeholder",
    "potstill",
    "secret",
    "test-key",
    "your-api-key",
    "your-key",
    "12345678",
)
"""What keys begin with in documentation, or consist of: found by guessing, however long."""


class OpenGate:
    """Lets everybody in: for a gateway that only its own machine can reach."""

    async def admit(self, key: str | None, route: str, at: float) -> Admission | Problem:
        return Admission()

    def settle(self, admission: Admission, *, usd: float | None, tokens: int, at: float) -> None:
        """There is no budget."""


class AdminGate(OpenGate):
    """Lets in who presents the admin key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    async def admit(self, key: str | None, route: str, at: float) -> Admission | Problem:
        if key is not None and hmac.compare_digest(key.encode(), self._key):
            return Admission(key_id="admin")
        said = "is not known here" if key else "is missing: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'"
        return Problem(status=401, kind="authentication", message=f"The gateway's key {said}.")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked_admin_key(settings: Gateway, key: str | None) -> str | None:
    """The admin key, or None where none is needed. Raises ``ConfigError`` for one that is missing, short or guessed."""
    needed = settings.keys_required or not is_loopback(settings.host)
    variable = settings.admin_key_env
    if key is None or not key.strip():
        if not needed:
            return None
        why = "keys are required" if settings.keys_required else f"'{settings.host}' can be reached from other machines"
        raise ConfigError(
            f"An admin key is needed, because {why}, and {variable} is not set. "
            f'Type: export {variable}="$(openssl rand -hex 24)"'
        )
    key = key.strip()
    weak = _weakness(key)
    if weak is not None:
        raise ConfigError(f'The admin key in {variable} {weak}. Type: export {variable}="$(openssl rand -hex 24)"')
    return key


def _weakness(key: str) -> str | None:
    if len(key) < MIN_KEY_CHARACTERS:
        return f"has {len(key)} characters; at least {MIN_KEY_CHARACTERS} are needed"
    if len(set(key)) < MIN_DIFFERENT:
        return f"has only {len(set(key))} different characters; at least {MIN_DIFFERENT} are needed"
    if any(key.lower().startswith(guess) for guess in GUESSED):
        return "begins as keys in documentation do"
    return None
