"""Which admin keys are good enough to start with.

What it knows: lengths, common defaults, variety. What it does not do: compare a presented key (``sessions``).
"""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections import Counter

from potstill.errors import ConfigError

LEAST = 16
"""Characters."""
LEAST_BITS = 50.0
"""Of variety, counted as if the characters had been drawn in the proportions that they have."""
WORDS = (
    "admin", "change", "default", "demo", "example", "hunter2", "letmein", "litellm", "master", "passw0rd", "password",
    "potstill", "qwerty", "secret", "sk-1234", "test", "your-key", "yourkey",
)  # fmt: skip
HOW = (
    "Type: export POTSTILL_ADMIN_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))') and keep it safe"
)


def check_admin_key(value: str | None, host: str) -> None:
    """Raise ``ConfigError`` unless this key may guard a gateway that listens on ``host``.

    None or empty: no admin API. That is allowed on a loopback address only; where others can reach the gateway,
    somebody must be able to revoke a key and to stop a student. The message never repeats the key.
    """
    if value is None or value == "":
        if is_loopback(host):
            return
        raise ConfigError(f"A gateway that listens on {host} needs an admin key, and none is set. {HOW}")
    if (why := weakness(value)) is not None:
        raise ConfigError(f"The admin key is too weak: {why}. {HOW}")


def weakness(value: str) -> str | None:
    """Why somebody could guess the key, in words that do not repeat it; None if it is good."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        return "it holds characters that no header can carry, or spaces around it"
    if len(value) < LEAST:
        return f"it has {len(value)} characters; {LEAST} are the least"
    rest = value.lower()
    for word in sorted(WORDS, key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(rest) < LEAST - 4:
        return "it is made of words that every list of default keys has"
    if _bits(rest) < LEAST_BITS or _is_sequence(rest) or _repeats(rest):
        return "its characters hardly vary"
    return None


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bits(text: str) -> float:
    counts = Counter(text)
    return sum(-count * math.log2(count / len(text)) for count in counts.values())


def _is_sequence(text: str) -> bool:
    """``abcdefghijklmnop``, ``0123456789012345``: most characters follow from the one before."""
    steps = Counter(ord(b) - ord(a) for a, b in itertools.pairwise(text))
    return bool(steps) and steps.most_common(1)[0][1] > 0.6 * (len(text) - 1)


def _repeats(text: str) -> bool:
    """``a1b2c3d4a1b2c3d4``: a short text several times over."""
    return any(
        (text[:length] * (len(text) // length + 1))[: len(text)] == text for length in range(1, len(text) // 2 + 1)
    )
