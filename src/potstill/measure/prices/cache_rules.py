"""How each provider bills a prompt that it has read before: its cache, and n samples of one request. Kept by hand.

What it knows: rules, by provider and model name, each with the page that states it. What it does not do: prices (the
table has those) or matching prompts (``potstill.measure.cache`` does).

Where a provider publishes no lifetime, the shortest that it promises or observers report is taken: a simulation should
rather miss a hit than invent one.
"""

from __future__ import annotations

import msgspec


class CacheRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a prefix can be read from a provider's prompt cache.

    ``minimum_tokens``: shorter prefixes are never cached. ``ttl_s``: seconds an entry lives after its last use.
    ``block_tokens``: hits are multiples of it. ``explicit``: only what the client marks is written, at whole messages
    (then the last message, which changes with each step, is not written); otherwise the whole prompt is, by tokens.
    ``n_shares_prompt``: n samples asked for in one request are billed as one prompt; elsewhere each sample is a request
    of its own, and all but the first read the cache.
    """

    minimum_tokens: int = 1024
    ttl_s: float = 300.0
    block_tokens: int = 1
    explicit: bool = False
    n_shares_prompt: bool = False
    source: str = ""


_ANTHROPIC = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching"
_OPENAI = "https://developers.openai.com/api/docs/guides/prompt-caching"
_GOOGLE = "https://ai.google.dev/gemini-api/docs/caching"
_DEEPSEEK = "https://api-docs.deepseek.com/guides/kv_cache"


def _anthropic(minimum_tokens: int) -> CacheRule:
    """Five minutes, refreshed by each hit; written where the client puts a breakpoint."""
    return CacheRule(minimum_tokens=minimum_tokens, ttl_s=300.0, explicit=True, source=_ANTHROPIC)


# The first fragment that the lower-case model name contains decides; the empty one is the provider's default.
_BY_PROVIDER: dict[str, tuple[tuple[str, CacheRule], ...]] = {
    "anthropic": (
        # 512: Opus 5, Fable 5, Mythos 5. 1,024: Sonnets, Opus 4, 4.1, 4.8. 2,048: Opus 4.7, Haiku 3 and 3.5.
        # 4,096: Opus 4.5, 4.6, Haiku 4.5; later Haikus are taken to be the same. Models not listed: 1,024.
        ("opus-5", _anthropic(512)),
        ("fable", _anthropic(512)),
        ("mythos", _anthropic(512)),
        ("opus-4-5", _anthropic(4096)),
        ("opus-4-6", _anthropic(4096)),
        ("opus-4-7", _anthropic(2048)),
        ("3-haiku", _anthropic(2048)),
        ("3-5-haiku", _anthropic(2048)),
        ("haiku", _anthropic(4096)),
        ("", _anthropic(1024)),
    ),
    # 1,024 tokens, then steps of 128; dropped after 5 to 10 minutes without use.
    "openai": (("", CacheRule(block_tokens=128, n_shares_prompt=True, source=_OPENAI)),),
    "azure": (("", CacheRule(block_tokens=128, n_shares_prompt=True, source=_OPENAI)),),
    # Its API reference: input tokens are billed once for n completions. Of its cache it publishes no more than that.
    "mistral": (("", CacheRule(n_shares_prompt=True, source="https://docs.mistral.ai/api")),),
    # Implicit caching. The lifetime is not published ("a few minutes" by the vendor's staff).
    "google": (
        ("pro", CacheRule(minimum_tokens=4096, source=_GOOGLE)),
        ("", CacheRule(minimum_tokens=1024, source=_GOOGLE)),
    ),
    # On disk, in units of 64 tokens, kept for "a few hours to a few days": one hour is the cautious end.
    "deepseek": (("", CacheRule(minimum_tokens=64, ttl_s=3600.0, block_tokens=64, source=_DEEPSEEK)),),
}

_DEFAULT = CacheRule(source="assumed: 1,024 tokens, 5 minutes, as most providers with automatic caching")


def cache_rule(provider: str, model: str) -> CacheRule:
    """The cache rule for a model of a provider; a cautious default for providers that publish none."""
    name = model.lower().replace(".", "-")
    if provider not in _BY_PROVIDER and "claude" in name:
        provider = "anthropic"
    for fragment, rule in _BY_PROVIDER.get(provider, ()):
        if fragment in name:
            return rule
    return _DEFAULT
