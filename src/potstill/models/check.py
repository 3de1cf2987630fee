"""Asks a model what it can do instead of believing it: the conformance check behind ``potstill models check``.

What it knows: the contract of ``protocols.Model`` and small requests that show each part of it. What it does not do:
print, open models, or judge the quality of answers. Log-probabilities of the prompt are never assumed: no request of
potstill needs them, likelihoods are scored by the models that claim ``scores_candidates``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from potstill.errors import BadResponse, ModelError
from potstill.protocols import Capabilities, Model
from potstill.types import Answerer, Call, Completion, Message, Request, Situation, Struct, ToolSpec

ADMISSIBLE = ("open the door", "go to the kitchen", "take the lamp")
_QUESTION = Message(role="user", content="You are in a hall. Answer with one of: " + ", ".join(ADMISSIBLE) + ".")
_SITUATION = Situation(goal="find the lamp", observation="You are in a hall.")
"""The same for a policy, which reads no messages."""
_PROMPT_TOKENS = 200
"""More than any of the prompts below has in any tokenizer, the tool's description included."""
_TOOL_ANSWER_TOKENS = 128
_TOOL = ToolSpec(
    name="open_door",
    description="Opens a door of the house.",
    parameters={"type": "object", "properties": {"door": {"type": "string"}}, "required": ["door"]},
)


class Status(StrEnum):
    OK = "ok"
    FAILED = "failed"
    """The contract, or something that the model claims, does not hold."""
    ABSENT = "absent"
    """Not claimed and not there."""
    UNCLAIMED = "unclaimed"
    """There, though not claimed: it can be switched on where the model is opened."""
    UNKNOWN = "unknown"
    """The answer allows no conclusion."""


class Finding(Struct, frozen=True, kw_only=True):
    check: str
    status: Status
    detail: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """What was found. ``output_tokens_per_s`` counts from sending to the whole answer, the prompt's time included."""

    model: str
    claims: Capabilities
    findings: tuple[Finding, ...] = ()
    latency_s: float | None = None
    output_tokens_per_s: float | None = None
    requests: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def passed(self) -> bool:
        return all(finding.status is not Status.FAILED for finding in self.findings)


class Bound(Struct, frozen=True, kw_only=True):
    """The most that a check can send and be answered."""

    requests: int
    input_tokens: int
    output_tokens: int


def bound(*, n: int = 3, quick: bool = False, max_tokens: int = 24) -> Bound:
    """What ``check_model`` can cost at most without retries, every sample being a request of its own.

    >>> bound(n=3).requests
    16
    """
    if quick:
        return Bound(requests=1, input_tokens=_PROMPT_TOKENS, output_tokens=max_tokens)
    samples = 1 + n + 2 + (n + 1) + n + 1 + 1  # as in _Probe.checks, the tools' request apart
    return Bound(
        requests=samples + 1,
        input_tokens=(samples + 1) * _PROMPT_TOKENS,
        output_tokens=samples * max_tokens + _TOOL_ANSWER_TOKENS,
    )


async def check_model(model: Model, *, n: int = 3, quick: bool = False, max_tokens: int = 24) -> Report:
    """Send a few small requests (see ``bound``; ``quick``: one) and report what they show.

    An error of the first request is raised, for there is nothing to check; later ones become findings.
    """
    probe = _Probe(model, n, max_tokens)
    findings = [await probe.one_sample()]
    if not quick:
        for check in probe.checks():
            findings.append(await _guarded(check, model.capabilities))
    return probe.report(findings)


OPTIONAL = {
    "admissible_actions": ("admissible actions", "constrained"),
    "log_probabilities": ("log-probabilities", "logprobs"),
    "candidate_scores": ("candidate scores", "scores_candidates"),
    "tools": ("tools", "tools"),
}
"""Checks of what a model need not have: the name that is told, and the claim that makes its absence a failure."""


async def _guarded(check: Callable[[], Awaitable[Finding]], claims: Capabilities) -> Finding:
    try:
        return await check()
    except ModelError as error:
        method = getattr(check, "__name__", "check")
        name, claim = OPTIONAL.get(method, (method.replace("_", " "), ""))
        # An endpoint that turns the request itself down lacks the feature; one that is out of reach may have it.
        refused = type(error) in (ModelError, BadResponse) and claim and not getattr(claims, claim)
        status = Status.ABSENT if refused else Status.FAILED
        return Finding(check=name, status=status, detail=f"{type(error).__name__}: {error}")


class _Probe:
    """Sends the requests of one check and keeps their calls."""

    def __init__(self, model: Model, n: int, max_tokens: int) -> None:
        self._model = model
        self._claims = model.capabilities
        self._n = n
        admissible = ADMISSIBLE if model.capabilities.actions_only else ()
        self._base = Request(
            messages=(_QUESTION,),
            situation=_SITUATION,
            admissible=admissible,
            temperature=1.0,
            max_tokens=max_tokens,
        )
        self._calls: list[Call] = []
        self._first: Call | None = None
        self._several: Completion | None = None

    def checks(self) -> list[Callable[[], Awaitable[Finding]]]:
        return [
            self.n_samples,
            self.shared_prompt,
            self.concurrent_samples,
            self.cancelling,
            self.usage,
            self.admissible_actions,
            self.log_probabilities,
            self.candidate_scores,
            self.tools,
        ]

    async def _sample(self, request: Request, n: int = 1) -> Completion:
        completion = await self._model.sample(request, n)
        self._calls.extend(completion.calls)
        return completion

    async def one_sample(self) -> Finding:
        completion = await self._sample(self._base)
        self._first = completion.calls[-1] if completion.calls else None
        if len(completion.replies) != 1:
            return _found("one sample", False, f"{len(completion.replies)} replies instead of 1")
        reply = completion.replies[0]
        detail = f"finished by {reply.finish_reason.value}"
        if not reply.text.strip() and not reply.tool_calls:
            return Finding(check="one sample", status=Status.UNKNOWN, detail=f"an empty answer, {detail}")
        return _found("one sample", True, detail)

    async def n_samples(self) -> Finding:
        self._several = await self._sample(self._base, self._n)
        replies = self._several.replies
        different = len({(reply.text, reply.tool_calls) for reply in replies})
        detail = f"{len(replies)} replies, {different} different at temperature 1"
        return _found("n samples", len(replies) == self._n, detail)

    async def shared_prompt(self) -> Finding:
        if self._several is None:
            return Finding(check="shared prompt", status=Status.UNKNOWN, detail="n samples could not be had")
        calls = self._several.calls
        if not self._claims.n_shares_prompt:
            return Finding(
                check="shared prompt", status=Status.ABSENT, detail=f"{len(calls)} billed requests for {self._n}"
            )
        single = self._first.usage.input_tokens if self._first and self._first.usage else None
        counted = [call.usage.input_tokens for call in calls if call.usage]
        if len(counted) < len(calls) or single is None:
            return Finding(check="shared prompt", status=Status.UNKNOWN, detail="no token counts reported")
        detail = f"{sum(counted)} input tokens for {self._n} samples, {single} for one"
        return _found("shared prompt", len(calls) == 1 and sum(counted) < 1.5 * single, detail)

    async def concurrent_samples(self) -> Finding:
        completions = await asyncio.gather(*(self._sample(self._base) for _ in range(2)))
        return _found("concurrent samples", all(len(one.replies) == 1 for one in completions), "2 at once")

    async def cancelling(self) -> Finding:
        task = asyncio.create_task(self._model.sample(self._base, self._n))
        await asyncio.sleep(0.01)
        task.cancel()
        try:
            self._calls.extend((await task).calls)
            detail = "answered before it could be cancelled; "
        except asyncio.CancelledError:
            detail = ""
        after = await self._sample(self._base)
        return _found("cancelling", len(after.replies) == 1, detail + "the model answers afterwards")

    async def usage(self) -> Finding:
        """The structs prove that the parts of each usage add up; here: is there one, and is it plausible?"""
        answered = [call for call in self._calls if call.replies]
        if any(call.answerer is not Answerer.NOBODY for call in self._calls):
            return _found("usage", False, "a call names an answerer; only the caller knows the role")
        if any(call.usage is None for call in answered):
            return Finding(check="usage", status=Status.UNKNOWN, detail="no token counts: calls cannot be priced")
        empty = [call for call in answered if call.usage and not call.usage.input_tokens]
        estimated = any(call.usage and call.usage.estimated for call in answered)
        cached = any(call.usage and call.usage.cache_reported for call in answered)
        if self._claims.reports_cache and not cached:
            return _found("usage", False, "claims to report its cache and does not")
        detail = f"{'estimated' if estimated else 'reported'}; cache {'reported' if cached else 'not reported'}"
        return _found("usage", not empty, detail if not empty else "a prompt of 0 tokens")

    async def admissible_actions(self) -> Finding:
        request = msgspec.structs.replace(self._base, admissible=ADMISSIBLE)
        replies = (await self._sample(request, self._n)).replies
        inside = sum(reply.text in ADMISSIBLE for reply in replies)
        detail = f"{inside} of {len(replies)} answers were admissible"
        if self._claims.constrained:
            return _found("admissible actions", inside == len(replies), detail)
        return Finding(check="admissible actions", status=Status.ABSENT, detail=f"not enforced; {detail}")

    async def log_probabilities(self) -> Finding:
        request = Request(messages=self._base.messages, max_tokens=8, top_logprobs=2)
        reply = (await self._sample(request)).replies[0]
        valid = [token for token in reply.token_logprobs if token.logprob <= 1e-6]
        there = bool(valid) and len(valid) == len(reply.token_logprobs) and reply.logprob is not None
        detail = f"{len(valid)} tokens, sum {reply.logprob:.2f}" if there and reply.logprob is not None else "none"
        return _claimed("log-probabilities", self._claims.logprobs, there, detail)

    async def candidate_scores(self) -> Finding:
        request = msgspec.structs.replace(self._base, admissible=ADMISSIBLE, temperature=0.0)
        candidates = (await self._sample(request)).replies[0].candidates
        scores = [score for _, score in candidates]
        complete = {action for action, _ in candidates} == set(ADMISSIBLE) and len(candidates) == len(ADMISSIBLE)
        there = complete and scores == sorted(scores, reverse=True)
        if self._claims.scores_candidates and not candidates:
            detail = "can score candidates; this one was opened to sample (local models: act_by='likelihood')"
            return Finding(check="candidate scores", status=Status.UNKNOWN, detail=detail)
        return _claimed("candidate scores", self._claims.scores_candidates, there, f"{len(candidates)} scored")

    async def tools(self) -> Finding:
        request = Request(
            messages=(Message(role="user", content="Open the kitchen door. Use the tool."),),
            tools=(_TOOL,),
            max_tokens=_TOOL_ANSWER_TOKENS,
        )
        reply = (await self._sample(request)).replies[0]
        called = [call.name for call in reply.tool_calls]
        if not called and self._claims.tools:
            return Finding(check="tools", status=Status.UNKNOWN, detail="accepted, but the model called none")
        return _claimed("tools", self._claims.tools, called == [_TOOL.name], f"called {', '.join(called) or 'none'}")

    def report(self, findings: list[Finding]) -> Report:
        first, usages = self._first, [call.usage for call in self._calls if call.usage]
        speed = None
        if first and first.usage and first.latency_s > 0:
            speed = first.usage.output_tokens / first.latency_s
        return Report(
            model=self._model.name,
            claims=self._claims,
            findings=tuple(findings),
            latency_s=first.latency_s if first else None,
            output_tokens_per_s=speed,
            requests=len(self._calls),
            input_tokens=sum(usage.input_tokens for usage in usages) if usages else None,
            output_tokens=sum(usage.output_tokens for usage in usages) if usages else None,
        )


def _found(check: str, holds: bool, detail: str) -> Finding:
    return Finding(check=check, status=Status.OK if holds else Status.FAILED, detail=detail)


def _claimed(check: str, claimed: bool, there: bool, detail: str) -> Finding:
    if claimed:
        return _found(check, there, detail)
    return Finding(check=check, status=Status.UNCLAIMED if there else Status.ABSENT, detail=detail)
