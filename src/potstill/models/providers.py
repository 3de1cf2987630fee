"""What is known of each provider's OpenAI-compatible endpoint: a dated table, so that nobody guesses in code.

What it knows: address, key variable, whether ``n`` samples are billed as one prompt, deviations of the dialect.
What it does not do: prices and rules of prompt caches (``measure.prices`` owns those), or probing (``models.check``).

``n_shares_prompt`` is True only where the provider documents it, or where the server is one's own and evaluates the
prompt once. Everywhere else the first sample is asked for alone and the others read the cache that it warmed.
"""

from __future__ import annotations

from potstill.errors import UnknownName
from potstill.types import Struct
from potstill.wire.openai_chat import Dialect

CHECKED = "2026-11"
"""Month in which the table was compared with the providers' documentation."""


class Provider(Struct, frozen=True, kw_only=True):
    """One endpoint. What a user knows better is passed where a model is opened: ``n_shares_prompt=True``, ``tools``,
    ``logprobs``."""

    name: str
    base_url: str = ""
    key_variables: tuple[str, ...] = ()
    key_required: bool = True
    n_shares_prompt: bool = False
    max_n: int = 1
    """Most samples in one request."""
    tools: bool = True
    logprobs: bool = False
    reports_cache: bool = False
    dialect: Dialect = Dialect()
    breakpoint_models: tuple[str, ...] = ()
    """Models whose name starts so need explicit cache breakpoints."""
    note: str = ""


_TABLE = (
    Provider(
        name="http",
        key_variables=("POTSTILL_HTTP_KEY",),
        key_required=False,
        max_n=128,
        tools=False,
        note="any OpenAI-compatible endpoint: http:URL#MODEL",
    ),
    Provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        key_variables=("OPENAI_API_KEY",),
        n_shares_prompt=True,
        max_n=128,
        logprobs=True,
        reports_cache=True,
        dialect=Dialect(max_tokens_field="max_completion_tokens"),
    ),
    Provider(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        key_variables=("ANTHROPIC_API_KEY",),
        dialect=Dialect(seed_field=None, logprobs=False),
        note="its OpenAI-compatible endpoint: n must be 1, no prompt caching",
    ),
    Provider(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        max_n=8,
        reports_cache=True,
        dialect=Dialect(logprobs=False),
    ),
    Provider(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        key_variables=("DEEPSEEK_API_KEY",),
        logprobs=True,
        reports_cache=True,
        dialect=Dialect(seed_field=None),
    ),
    Provider(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        n_shares_prompt=True,
        max_n=16,
        dialect=Dialect(seed_field="random_seed", logprobs=False),
        note="its API reference: input tokens are billed once for n completions",
    ),
    Provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        logprobs=True,
        reports_cache=True,
        breakpoint_models=("anthropic/",),
    ),
    Provider(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        reports_cache=True,
        dialect=Dialect(logprobs=False),
    ),
    Provider(
        name="xai",
        base_url="https://api.x.ai/v1",
        key_variables=("XAI_API_KEY",),
        logprobs=True,
        reports_cache=True,
    ),
    Provider(
        name="moonshot",
        base_url="https://api.moonshot.ai/v1",
        key_variables=("MOONSHOT_API_KEY",),
        reports_cache=True,
        dialect=Dialect(seed_field=None, logprobs=False),
    ),
    Provider(
        name="together",
        base_url="https://api.together.xyz/v1",
        key_variables=("TOGETHER_API_KEY",),
        max_n=128,
        dialect=Dialect(logprobs=False),
    ),
    Provider(
        name="vllm",
        base_url="http://localhost:8000/v1",
        key_variables=("VLLM_API_KEY",),
        key_required=False,
        n_shares_prompt=True,
        max_n=128,
        logprobs=True,
        note="one's own server; the prompt is evaluated once for n",
    ),
    Provider(
        name="llamacpp",
        base_url="http://localhost:8080/v1",
        key_variables=("LLAMA_API_KEY",),
        key_required=False,
        n_shares_prompt=True,
        max_n=16,
        logprobs=True,
        note="llama-server started with --parallel >= n (llama.cpp#17775)",
    ),
    Provider(
        name="ollama",
        base_url="http://localhost:11434/v1",
        key_variables=("OLLAMA_API_KEY",),
        key_required=False,
        note="answers one sample whatever n says",
    ),
)

PROVIDERS = {provider.name: provider for provider in _TABLE}


def provider_named(name: str) -> Provider:
    """The row of the table. Raises ``UnknownName``.

    >>> provider_named("mistral").dialect.seed_field
    'random_seed'
    """
    if name not in PROVIDERS:
        raise UnknownName("provider", name, PROVIDERS)
    return PROVIDERS[name]


def shares_prompt(spec: str) -> bool:
    """Whether ``n`` samples of the model ``spec`` are billed as one prompt; False where that is not known.

    >>> shares_prompt("local:smollm2-135m"), shares_prompt("anthropic:claude-haiku-5-5")
    (True, False)
    """
    provider = spec.partition(":")[0]
    if provider in ("local", "torch"):
        return True
    return provider in PROVIDERS and PROVIDERS[provider].n_shares_prompt
