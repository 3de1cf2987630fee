"""A small language model in PyTorch: twice the prompt speed of llama.cpp on a CPU, and exact likelihoods.

Satisfies ``protocols.Model``. Requests with admissible actions are answered by scoring every action in one pass behind
the cached prompt; others by decoding, where ``local`` is faster. Takes the names and GGUF files that ``local`` takes,
and checkpoint folders (a fine-tuned student). Needs the extra ``lm``.

Knows requests and texts. The passes are in ``torch_engine``, the conversion in ``convert``.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from potstill.errors import ConfigError, ModelTimeout, ModelUnavailable, one_of
from potstill.models import templates
from potstill.models.convert import checkpoint, load_transformers
from potstill.models.likelihood import Tokens, drawn_replies, ranked
from potstill.models.llama_server import CpuMeter
from potstill.models.lm_texts import LmTexts, TemplateChoice
from potstill.models.local import default_threads, find_weights
from potstill.models.packages import Progress
from potstill.models.torch_engine import Check, TorchEngine, load_model, set_threads, token_ids
from potstill.models.tuned_file import refuse_tuned
from potstill.protocols import Capabilities
from potstill.types import Answerer, Call, Completion, FinishReason, Reply, Request, TokenLogprob, Usage

T = TypeVar("T")


class LmEngine(Protocol):
    """Token ids in, log-probabilities and token ids out (``torch_engine``, ``ct2_engine``)."""

    context_tokens: int
    ends: set[int]
    """Tokens that end an answer."""

    def score(
        self, prompt: Sequence[int], actions: Mapping[str, Tokens], check: Check
    ) -> tuple[dict[Tokens, float], int]: ...

    def decode(
        self,
        prompt: Sequence[int],
        n: int,
        max_tokens: int,
        temperature: float,
        seed: int,
        ended: Callable[[int, list[int]], bool],
        check: Check,
    ) -> tuple[list[list[tuple[int, float]]], int]: ...

    def clear(self) -> None: ...


class _Stopped(Exception):
    """Work that was cancelled."""


def open_torch(
    name_or_path: str | Path,
    *,
    threads: int | None = None,
    template: TemplateChoice = "auto",
    seed: int | None = None,
    timeout_s: float = 600.0,
) -> TorchModel:
    """Load a model for scoring: a known name, a GGUF file (converted once) or a checkpoint folder.

    Options as in ``local.open_local``. Raises ``UnknownName``, ``MissingExtra``, ``BadModelFile``, ``ConfigError``.
    """
    one_of("template", template, ("auto", "chat", "plain"))
    folder = find_checkpoint(name_or_path)
    set_threads(threads or default_threads())
    texts, engine = LmTexts(folder, template), TorchEngine(load_model(folder))
    return TorchModel(f"torch:{name_or_path}", texts, engine, seed=seed, timeout_s=timeout_s)


def find_checkpoint(name_or_path: str | Path, *, progress: Progress | None = None) -> Path:
    """The checkpoint folder of a known name, a GGUF file (converted once) or a folder that is one. Raises as above."""
    load_transformers()
    path = Path(name_or_path).expanduser()
    refuse_tuned(path)
    return checkpoint(path if path.is_dir() else find_weights(name_or_path), progress=progress)


class TorchModel:
    """A loaded model. Calls take turns on one thread; a cancelled one stops between two passes."""

    def __init__(
        self,
        name: str,
        texts: LmTexts,
        engine: LmEngine,
        *,
        seed: int | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self._name, self._texts, self._engine, self._timeout_s = name, texts, engine, timeout_s
        self.template, self._tokenizer = texts.template, texts.tokenizer
        self._ends = {*engine.ends, *token_ids(self._tokenizer.eos_token_id)}
        self._random = random.Random(seed)
        self._meter = CpuMeter()
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="potstill-torch")

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            n_shares_prompt=True,
            logprobs=True,
            constrained=True,
            scores_candidates=True,
            goes_on=True,
            reports_cache=True,
            context_tokens=self._engine.context_tokens,
        )

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """``n`` answers in order. With admissible actions they are drawn from the softmax of the actions'
        log-probabilities at the request's temperature (at 0: the likeliest), and the first reply carries all scores.
        """
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}.")
        if request.tools:
            raise ConfigError(f"{self._name} takes no tools. Use a model as local: instead.")
        if any(message.images for message in request.messages):
            raise ConfigError(f"{self._name} reads text only; the request holds images.")
        started, began, meter = time.time(), time.perf_counter(), self._meter.start()
        cpu_s = 0.0
        work = self._score if request.admissible else self._write
        try:
            replies, usage = await self._in_turn(lambda check: work(request, n, check))
        finally:
            cpu_s = self._meter.stop(meter)
        call = Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            replies=replies,
            usage=usage,
            temperature=request.temperature,
            started_at=started,
            latency_s=time.perf_counter() - began,
            cpu_s=cpu_s,
        )
        return Completion(replies=replies, calls=(call,))

    async def score(self, request: Request) -> Completion:
        """The likeliest admissible action, every action's log-probability in ``candidates``, most likely first.

        Sums over the action's own tokens without the end-of-generation token.
        """
        if not request.admissible:
            raise ConfigError("Likelihood scoring needs Request.admissible: the actions to choose from.")
        return await self.sample(msgspec.structs.replace(request, temperature=0.0))

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The model's token ids of a text that stands alone."""
        return self._texts.alone_ids(text)

    def count(self, text: str) -> int:
        """Tokens of a text: makes the model a ``protocols.TokenCounter``."""
        return len(self.tokenize(text))

    async def render(self, request: Request) -> str:
        """The text that the model reads for this request."""
        return self._texts.render(request.messages)

    async def aclose(self) -> None:
        """Free the thread and the caches."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        self._engine.clear()

    def _score(self, request: Request, n: int, check: Check) -> tuple[tuple[Reply, ...], Usage]:
        actions = {
            action: self._texts.action_ids(action, request.begun) for action in dict.fromkeys(request.admissible)
        }
        prompt = self._prompt_ids(request)
        steps, cached = self._engine.score(prompt, actions, check)
        candidates = ranked(actions, steps)
        replies = drawn_replies(candidates, request.temperature, n, self._seed(request))
        written = sum(len(actions[reply.text]) for reply in replies)
        return replies, _usage(len(prompt), cached, written)

    def _write(self, request: Request, n: int, check: Check) -> tuple[tuple[Reply, ...], Usage]:
        stops = request.stop or (templates.plain_stops(request.purpose) if self.template == "plain" else ())
        texts = [""] * n

        def ended(row: int, tokens: list[int]) -> bool:
            texts[row] = self._tokenizer.decode([token for token in tokens if token not in self._ends])
            return tokens[-1] in self._ends or any(stop in texts[row] for stop in stops)

        prompt = self._prompt_ids(request)
        samples, cached = self._engine.decode(
            prompt, n, request.max_tokens, request.temperature, self._seed(request), ended, check
        )
        replies = tuple(self._reply(request, text, stops, pairs) for text, pairs in zip(texts, samples, strict=True))
        return replies, _usage(len(prompt), cached, sum(map(len, samples)))

    def _prompt_ids(self, request: Request) -> list[int]:
        """What stands before the answer, or before the rest of one that was begun."""
        return [*self._texts.prompt_ids(request.messages), *self._texts.begun_ids(request.begun)]

    def _reply(self, request: Request, text: str, stops: tuple[str, ...], pairs: list[tuple[int, float]]) -> Reply:
        """Cut at the first stop text. Tokens that hold nothing but the end are left out of the log-probability."""
        cut = min((text.index(stop) for stop in stops if stop in text), default=None)
        complete = cut is not None or (bool(pairs) and pairs[-1][0] in self._ends)
        kept = [pair for pair in pairs if pair[0] not in self._ends]
        if cut is not None:
            while kept and len(self._tokenizer.decode([token for token, _ in kept[:-1]])) >= cut:
                kept.pop()
            text = text[:cut]
        tokens = tuple(
            TokenLogprob(token=self._tokenizer.decode([token]), logprob=logprob)
            for token, logprob in (kept if request.top_logprobs else ())
        )
        return Reply(
            text=text.strip(),
            logprob=math.fsum(logprob for _, logprob in kept),
            token_logprobs=tokens,
            finish_reason=FinishReason.STOP if complete else FinishReason.LENGTH,
        )

    def _seed(self, request: Request) -> int:
        return request.seed if request.seed is not None else self._random.getrandbits(31)

    async def _in_turn(self, work: Callable[[Check], T]) -> T:
        """Run on the model's thread. Cancelling and the time limit stop it between two passes."""
        if self._pool is None:
            raise ModelUnavailable(f"{self._name} was closed.")
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise _Stopped

        def run() -> T:
            check()
            return work(check)

        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, run)
        except TimeoutError:
            raise ModelTimeout(f"{self._name} did not answer within {self._timeout_s:g} s. Allow more time.") from None
        finally:
            stop.set()


def _usage(prompt: int, cached: int, written: int) -> Usage:
    return Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=written, cache_reported=True)
