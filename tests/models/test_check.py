"""The conformance check passes models that keep the contract and finds each way to break it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from misbehaving import Endpoint

from potstill.errors import KeyRefused, ModelError
from potstill.models.check import ADMISSIBLE, Report, Status, bound, check_model
from potstill.models.http import HttpModel
from potstill.models.scripted import ScriptedModel
from potstill.protocols import Capabilities
from potstill.types import Answerer, Completion, Reply, Request, TokenLogprob, ToolCall


def statuses(report: Report) -> dict[str, Status]:
    return {finding.check: finding.status for finding in report.findings}


def good(request: Request, index: int) -> Reply:
    if request.tools:
        return Reply(tool_calls=(ToolCall(id="1", name=request.tools[0].name),))
    logprobs = (TokenLogprob(token="x", logprob=-0.5),) if request.top_logprobs else ()
    ranked = tuple((action, -float(rank)) for rank, action in enumerate(request.admissible))
    return Reply(text=ADMISSIBLE[index], logprob=-0.5 if logprobs else None, token_logprobs=logprobs, candidates=ranked)


ALL = Capabilities(n_shares_prompt=True, tools=True, logprobs=True, constrained=True, scores_candidates=True)


async def test_a_model_that_keeps_its_word_passes() -> None:
    report = await check_model(ScriptedModel(good, capabilities=ALL))
    assert report.passed
    assert set(statuses(report).values()) == {Status.OK}
    assert report.requests <= bound().requests
    assert report.input_tokens is not None
    assert report.input_tokens <= bound().input_tokens


async def test_what_is_there_and_not_claimed_is_told() -> None:
    report = await check_model(ScriptedModel(good, capabilities=Capabilities()))
    assert report.passed
    found = statuses(report)
    assert found["log-probabilities"] is found["candidate scores"] is found["tools"] is Status.UNCLAIMED


@pytest.mark.parametrize(
    ("claim", "check"),
    [("logprobs", "log-probabilities"), ("constrained", "admissible actions"), ("reports_cache", "usage")],
)
async def test_a_claim_that_does_not_hold_fails(claim: str, check: str) -> None:
    model = ScriptedModel(lambda request, index: "hm", capabilities=Capabilities(**{claim: True}))
    report = await check_model(model)
    assert not report.passed
    assert [finding.check for finding in report.findings if finding.status is Status.FAILED] == [check]


class Breaks(ScriptedModel):
    """Keeps the contract but for one thing."""

    def __init__(self, how: str) -> None:
        super().__init__(good)
        self.how = how

    async def sample(self, request: Request, n: int = 1) -> Completion:
        if self.how == "deaf to cancelling":
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                self.how = "dead"
                raise
        if self.how == "dead":
            raise ModelError("stuck since it was cancelled")
        completion = await super().sample(request, n)
        changes: dict[str, Any] = {}
        if self.how == "too few" and n > 1:
            changes = {"replies": completion.replies[1:]}
        if self.how == "names itself teacher":
            calls = tuple(msgspec.structs.replace(call, answerer=Answerer.TEACHER) for call in completion.calls)
            changes = {"calls": calls}
        if self.how == "bills each sample" and n > 1:
            changes = {"calls": completion.calls * n}
        return msgspec.structs.replace(completion, **changes)


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("too few", "n samples"),
        ("names itself teacher", "usage"),
        ("bills each sample", "shared prompt"),
        ("deaf to cancelling", "cancelling"),
    ],
)
async def test_each_break_of_the_contract_is_found(how: str, check: str) -> None:
    report = await check_model(Breaks(how))
    assert statuses(report)[check] is Status.FAILED


async def test_an_endpoint_without_extras_passes(endpoint: Endpoint) -> None:
    model = HttpModel("m", base_url=endpoint.url("ok"))
    report = await check_model(model)
    await model.aclose()
    assert statuses(report)["n samples"] is Status.OK
    assert statuses(report)["shared prompt"] is Status.ABSENT
    assert statuses(report)["log-probabilities"] is Status.ABSENT
    assert report.passed
    assert report.latency_s is not None
    assert report.output_tokens_per_s is not None


async def test_a_claim_about_an_endpoint_is_held_against_it(endpoint: Endpoint) -> None:
    model = HttpModel("m", base_url=endpoint.url("ok"), logprobs=True)
    report = await check_model(model)
    await model.aclose()
    assert [finding.check for finding in report.findings if finding.status is Status.FAILED] == ["log-probabilities"]


@pytest.mark.parametrize(
    ("claims", "error", "status"),
    [
        (Capabilities(), ModelError("400: unknown field 'logprobs'"), Status.ABSENT),
        (Capabilities(logprobs=True), ModelError("400: unknown field 'logprobs'"), Status.FAILED),
        (Capabilities(), KeyRefused("401"), Status.FAILED),
    ],
)
async def test_a_refused_extra_is_a_fact_and_a_refused_claim_a_failure(
    claims: Capabilities, error: ModelError, status: Status
) -> None:
    def answer(request: Request, index: int) -> Reply:
        if request.top_logprobs:
            raise error
        return good(request, index)

    report = await check_model(ScriptedModel(answer, capabilities=claims))
    assert statuses(report)["log-probabilities"] is status
    assert report.passed is (status is Status.ABSENT)


async def test_quick_is_one_request(endpoint: Endpoint) -> None:
    model = HttpModel("m", base_url=endpoint.url("one-choice"))
    report = await check_model(model, quick=True)
    await model.aclose()
    assert endpoint.seen("one-choice") == report.requests == bound(quick=True).requests == 1


async def test_a_model_that_cannot_be_asked_is_an_error_not_a_finding(endpoint: Endpoint) -> None:
    model = HttpModel("m", base_url=endpoint.url("refused-key"))
    with pytest.raises(KeyRefused):
        await check_model(model)
    await model.aclose()
