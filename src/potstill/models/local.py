"""A language model that runs in this process: any GGUF file through llama.cpp. Satisfies ``protocols.Model``.

Knows: how a request becomes one completion with ``n`` samples that share one evaluation of the prompt, how answers are
held to the admissible actions, what was read from the prefix cache, and how likelihoods become an answer.
Does not know: the server's protocol (``llama_server``), templates (``templates``), the search for the likeliest action
(``likelihood``), where files come from (``packages``).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from potstill.errors import ConfigError, UnknownName, one_of
from potstill.models import gguf, grammar, llama_answers, packages, templates
from potstill.models.likelihood import best_action, drawn_replies, every_action
from potstill.models.llama_server import CpuMeter, LlamaServer
from potstill.models.tuned_file import refuse_tuned
from potstill.protocols import Capabilities
from potstill.types import (
    Answerer,
    Call,
    Completion,
    Reply,
    Request,
    Usage,
)

ActBy = Literal["sample", "likelihood"]
ScoreMode = Literal["full", "argmax"]
TemplateChoice = Literal["auto", "chat", "plain"]


def open_local(
    name_or_path: str | Path,
    *,
    threads: int | None = None,
    context_tokens: int = 8192,
    samples: int = 4,
    template: TemplateChoice = "auto",
    act_by: ActBy = "sample",
    score_mode: ScoreMode = "full",
    seed: int | None = None,
    timeout_s: float = 600.0,
) -> LocalModel:
    """Load a GGUF model: a known name (fetched into the cache if needed) or the path of a file. Takes about a second.

    ``samples`` is how many samples one request evaluates side by side; more are asked for in turns. ``template``
    ``auto`` takes the file's chat template, or ``plain`` where it has none. ``act_by`` says how a request with
    admissible actions is answered: free sampling under a grammar, or the likelihood of every action. ``seed`` makes
    the requests that carry none repeatable. ``timeout_s`` is for one request.

    Raises ``UnknownName``, ``MissingExtra``, ``BadModelFile``, ``ModelUnavailable``, ``ConfigError``.

    >>> model = open_local("smollm2-135m")  # doctest: +SKIP
    """
    path = find_weights(name_or_path)
    refuse_tuned(path)
    return loaded(
        f"local:{name_or_path}",
        gguf.inspect(path),
        threads=threads,
        context_tokens=context_tokens,
        samples=samples,
        template=template,
        act_by=act_by,
        score_mode=score_mode,
        seed=seed,
        timeout_s=timeout_s,
    )


def loaded(
    name: str,
    info: gguf.GgufInfo,
    *,
    threads: int | None = None,
    context_tokens: int = 8192,
    samples: int = 4,
    template: TemplateChoice = "auto",
    act_by: ActBy = "sample",
    score_mode: ScoreMode = "full",
    seed: int | None = None,
    timeout_s: float = 600.0,
) -> LocalModel:
    """A GGUF file that was looked at, as the model of this name. Options and errors as of ``open_local``."""
    chosen = _template(template, info)
    one_of("way to act (act_by)", act_by, get_args(ActBy))
    one_of("score mode", score_mode, get_args(ScoreMode))
    if samples < 1 or context_tokens < 16:
        raise ConfigError(f"samples must be >= 1 and context_tokens >= 16; got {samples} and {context_tokens}.")
    if (threads is not None and threads < 1) or not timeout_s > 0:
        raise ConfigError(f"threads must be >= 1 and timeout_s above 0; got {threads} and {timeout_s}.")
    if info.context_tokens is not None:
        context_tokens = min(context_tokens, info.context_tokens)
    server = LlamaServer(info.path, threads=threads or default_threads(), context_tokens=context_tokens, slots=samples)
    return LocalModel(
        name, info, server, template=chosen, act_by=act_by, score_mode=score_mode, seed=seed, timeout_s=timeout_s
    )


def find_weights(name_or_path: str | Path) -> Path:
    """The GGUF file of a known model name (fetched if needed) or of a path.

    Raises ``UnknownName`` for what is neither, and what ``packages.get`` raises.
    """
    text = str(name_or_path)
    if text in packages.PACKAGES:
        return packages.get(text)
    path = Path(text).expanduser()
    if path.exists() or path.suffix == ".gguf" or len(path.parts) > 1:
        return path
    raise UnknownName("local model or GGUF file", text, packages.PACKAGES)


def default_threads() -> int:
    """The cores that this process may use, eight at most: more do not make small models faster."""
    if hasattr(os, "sched_getaffinity"):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def _template(choice: TemplateChoice, info: gguf.GgufInfo) -> templates.Template:
    one_of("template", choice, get_args(TemplateChoice))
    if choice == "auto":
        return "chat" if info.chat_template else "plain"
    if choice == "chat" and not info.chat_template:
        raise ConfigError(f"{info.path} has no chat template: it is a base model. Use template 'plain'.")
    return choice


class LocalModel:
    """A loaded model. Cancelling a call stops its work in llama.cpp; the model stays usable."""

    def __init__(
        self,
        name: str,
        info: gguf.GgufInfo,
        server: LlamaServer,
        *,
        template: templates.Template,
        act_by: ActBy,
        score_mode: ScoreMode,
        seed: int | None,
        timeout_s: float,
    ) -> None:
        self._name, self.info, self._server = name, info, server
        self.template, self.act_by, self.score_mode, self._timeout_s = template, act_by, score_mode, timeout_s
        self._random = random.Random(seed)
        self._control = templates.control_pattern(info.control_tokens)
        self._meter = CpuMeter()
        properties = server.ask("/props")
        self._context = int(properties["default_generation_settings"]["n_ctx"])
        self._knows_tools = template == "chat" and bool(properties.get("chat_template_caps", {}).get("supports_tools"))
        self._tokens: dict[str, tuple[int, ...]] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            n_shares_prompt=True,
            tools=True,
            logprobs=True,
            constrained=True,
            scores_candidates=True,
            goes_on=True,
            reports_cache=True,
            context_tokens=self._context,
        )

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """``n`` answers in order. See ``protocols.Model``; requests with admissible actions are always answered with
        one of them, unless ``max_tokens`` cuts it off (``FinishReason.LENGTH``).
        """
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}.")
        _refuse_images(request)
        if request.admissible and not request.tools and self.act_by == "likelihood":
            return await self._sample_scored(request, n)
        seed = self._seed(request)
        calls = []
        for done in range(0, n, self._server.slots):
            calls.append(await self._call(request, min(self._server.slots, n - done), seed + done))
        return Completion(replies=tuple(reply for call in calls for reply in call.replies), calls=tuple(calls))

    async def score(self, request: Request, *, mode: ScoreMode | None = None) -> Completion:
        """The likeliest admissible action, and in ``candidates`` the log-probability of each, most likely first.

        A log-probability is the sum over the action's own tokens (as the tokenizer splits it), without the
        end-of-generation token. ``argmax`` stops as soon as no other action can win: the same answer for a fraction
        of the work, with the winner as the only candidate.

        Raises ``ConfigError`` if the request has no admissible actions.
        """
        call = await self._scored(request, mode or self.score_mode)
        return Completion(replies=call.replies, calls=(call,))

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The model's token ids of a text that stands alone, read as in a prompt: control tokens are broken up."""
        told = templates.neutralise(text, self._control)
        answer = self._server.ask("/tokenize", {"content": told, "add_special": False, "parse_special": True})
        return tuple(answer["tokens"])

    def count(self, text: str) -> int:
        """Tokens of a text: makes the model a ``protocols.TokenCounter``."""
        return len(self.tokenize(text))

    async def render(self, request: Request) -> str:
        """The text that the model reads for this request."""
        messages = templates.with_tools(request.messages, request.tools) if request.tools else request.messages
        if self.template == "plain":
            return templates.plain(messages, self._control)
        answer = await self._server.post(
            "/apply-template", {"messages": templates.chat_messages(messages, self._control)}
        )
        return str(answer["prompt"])

    async def aclose(self) -> None:
        """Stop the model and free its memory."""
        await self._server.aclose()

    async def _call(self, request: Request, n: int, seed: int) -> Call:
        if request.tools and self._knows_tools:
            path, body = "/v1/chat/completions", llama_answers.chat_body(request, n, seed)
        else:
            path, body = "/completion", self._body(request, await self._before(request), n, seed)
        started, began, meter = time.time(), time.perf_counter(), self._meter.start()
        cpu_s = 0.0
        try:
            events = await self._server.complete(path, body, self._timeout_s)
        finally:
            cpu_s = self._meter.stop(meter)
        if path == "/completion":
            answers = llama_answers.gather(events, n)
            replies = tuple(self._reply(request, answer) for answer in answers)
            usage, raw = llama_answers.usage(answers)
        else:
            replies, usage, raw = llama_answers.chat(events, n)
        return self._record(request, replies, usage, raw, started, began, cpu_s)

    def _body(self, request: Request, prompt: str, n: int, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": prompt,
            "n": n,
            "n_predict": request.max_tokens,
            "temperature": request.temperature,
            "samplers": ["temperature"],
            "seed": seed % 2**32,
            "n_probs": max(1, request.top_logprobs),
            "cache_prompt": True,
            "stop": list(self._stops(request)),
        }
        if request.tools:
            body["grammar"] = grammar.tool_calls(request.tools)
        elif request.admissible:
            body["grammar"] = grammar.one_of(request.admissible, prefix=self._gap(request))
        return body

    def _gap(self, request: Request) -> str:
        """What stands between the prompt, or what was begun, and the answer."""
        return " " if self.template == "plain" or request.begun else ""

    async def _before(self, request: Request) -> str:
        """The text behind which the model goes on."""
        prompt = await self.render(request)
        if not request.begun:
            return prompt
        gap = " " if self.template == "plain" else ""
        return prompt + gap + templates.neutralise(request.begun, self._control)

    def _stops(self, request: Request) -> Sequence[str]:
        if request.admissible:
            return ()
        if request.stop or self.template == "chat":
            return request.stop
        return templates.plain_stops(request.purpose)

    def _reply(self, request: Request, answer: llama_answers.Answer) -> Reply:
        if request.tools and (reply := llama_answers.tool_reply(answer, request.top_logprobs)) is not None:
            return reply
        text = answer.text.removeprefix(self._gap(request))
        if not request.admissible:
            text = text.strip()
        return llama_answers.text_reply(answer, text, request.top_logprobs)

    async def _sample_scored(self, request: Request, n: int) -> Completion:
        call = await self._scored(request, "full" if request.temperature > 0 else self.score_mode)
        candidates = call.replies[0].candidates
        replies = drawn_replies(candidates, request.temperature, n, self._seed(request))
        assert call.usage is not None
        gap = self._gap(request)
        written = sum(len(self._tokens[gap + reply.text]) for reply in replies)
        usage = msgspec.structs.replace(call.usage, output_tokens=written)
        return Completion(replies=replies, calls=(msgspec.structs.replace(call, replies=replies, usage=usage),))

    async def _scored(self, request: Request, mode: ScoreMode) -> Call:
        if not request.admissible:
            raise ConfigError("Likelihood scoring needs Request.admissible: the actions to choose from.")
        one_of("score mode", mode, get_args(ScoreMode))
        _refuse_images(request)
        started, began, meter = time.time(), time.perf_counter(), self._meter.start()
        cpu_s = 0.0
        try:
            prompt = await self._prompt_ids(await self._before(request))
            gap = self._gap(request)
            actions = {action: await self._action_ids(action, gap) for action in dict.fromkeys(request.admissible)}
            search = best_action if mode == "argmax" else every_action
            scores = await search(self._server, prompt, actions, self._timeout_s)
        finally:
            cpu_s = self._meter.stop(meter)
        text, logprob = scores.candidates[0]
        reply = Reply(text=text, logprob=logprob, candidates=scores.candidates)
        usage = Usage(
            input_tokens=len(prompt),
            cache_read_tokens=min(scores.cached, len(prompt)),
            output_tokens=len(actions[text]),
            cache_reported=True,
        )
        raw = {"scored_actions": len(actions), "evaluations": scores.evaluations, "evaluated_tokens": scores.evaluated}
        return self._record(request, (reply,), usage, raw, started, began, cpu_s)

    async def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        answer = await self._server.post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
        return tuple(answer["tokens"])

    async def _action_ids(self, action: str, gap: str) -> tuple[int, ...]:
        grammar.literal(action)
        text = gap + action
        if text not in self._tokens:
            if len(self._tokens) > 50_000:
                self._tokens.clear()
            body = {"content": text, "add_special": False, "parse_special": False}
            self._tokens[text] = tuple((await self._server.post("/tokenize", body))["tokens"])
        if not self._tokens[text]:
            raise ConfigError(f"The admissible action {action!r} has no tokens. Actions must not be empty.")
        return self._tokens[text]

    def _seed(self, request: Request) -> int:
        return request.seed if request.seed is not None else self._random.getrandbits(31)

    def _record(
        self,
        request: Request,
        replies: tuple[Reply, ...],
        usage: Usage,
        raw: dict[str, Any],
        started: float,
        began: float,
        cpu_s: float,
    ) -> Call:
        return Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            tools=request.tools,
            replies=replies,
            usage=usage,
            raw_usage=raw,
            temperature=request.temperature,
            started_at=started,
            latency_s=time.perf_counter() - began,
            cpu_s=cpu_s,
        )


def _refuse_images(request: Request) -> None:
    if any(message.images for message in request.messages):
        raise ConfigError("Local models read text only; the request holds images. Use an http: model that sees images.")
