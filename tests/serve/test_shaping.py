"""Models that refuse fields which others need: told in the settings, or learned from a refusal; over real sockets."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from deciding_builders import prompt
from hypothesis import given
from hypothesis import strategies as st
from test_deciding_over_http import calling, deciding
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.errors import ConfigError
from potstill.serve import settings as told
from potstill.serve.settings_file import parse
from potstill.serve.upstreams.shaping import SAMPLING, Shape, Shapes, refused_field, shaped

MESSAGES = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "temperature": 0.5}


def refusal(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return reply({"error": error}, status)


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (
            {
                "message": "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default "
                "(1) value is supported.",
                "param": "temperature",
                "code": "unsupported_value",
            },
            "temperature",
        ),
        ({"message": "`temperature` is deprecated for this model."}, "temperature"),
        ({"message": "`temperature` and `top_p` cannot both be specified for this model."}, "top_p"),
        (
            {
                "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            },
            "max_tokens",
        ),
        ({"message": "Unrecognized request argument supplied: stream_options"}, "stream_options"),
        ({"message": "[{'type': 'extra_forbidden', 'msg': 'Extra inputs are not permitted', 'loc': 'n'}]"}, "n"),
        ({"message": "logprobs are not supported with reasoning models."}, "logprobs"),
        ({"message": "max_tokens is too large: 5000. This model has at most 4096 completion tokens."}, None),
        ({"message": "temperature must be at most 1"}, None),
        ({"message": "messages: unexpected role 'owner'"}, None),
        ({"message": "Don't know n things; unsupported."}, None),
    ],
)
def test_a_refusal_names_the_field(error: dict[str, Any], field: str | None) -> None:
    body = json.dumps({"error": {"type": "invalid_request_error", **error}}).encode()
    assert refused_field(body, SAMPLING) == field


def test_what_is_not_to_be_changed_stays_byte_for_byte() -> None:
    body = b'{ "model" : "m", "messages":[{"content":"temperature max_tokens"}],"max_completion_tokens":1.0 }'
    assert shaped(body, Shape()) is body
    assert shaped(body, Shape(frozenset({"temperature"}), "max_completion_tokens")) is body
    assert json.loads(shaped(body, Shape(frozenset(), "max_tokens")))["max_tokens"] == 1.0
    assert b"max_completion_tokens" not in shaped(body, Shape(frozenset(), "max_tokens"))


@given(
    st.dictionaries(
        st.sampled_from(["model", "n", "temperature", "max_tokens", "max_completion_tokens"]), st.integers()
    ),
    st.frozensets(st.sampled_from(["n", "temperature", "max_tokens"])),
    st.sampled_from([None, "max_tokens", "max_completion_tokens"]),
)
def test_nothing_omitted_is_ever_sent_and_the_rest_is_kept(
    body: dict[str, int], omit: frozenset[str], field: str | None
) -> None:
    sent = json.loads(shaped(json.dumps(body).encode(), Shape(omit, field)))
    names = {"max_tokens", "max_completion_tokens"}
    assert not omit & sent.keys()
    assert {key: value for key, value in body.items() if key not in omit | names} == {
        key: value for key, value in sent.items() if key not in names
    }
    if field is not None and field not in omit:
        assert (names & sent.keys()) == ({field} if names & body.keys() else set())


def test_a_name_for_the_limit_is_not_learned_back_and_forth() -> None:
    shapes, model = (
        Shapes(told.Upstream(name="u", base_url="http://h/v1")),
        told.Model(name="m", upstream="u", model="m"),
    )

    def learn(name: str) -> bool:
        body = json.dumps({"error": {"message": f"Unsupported parameter: '{name}'"}}).encode()
        return shapes.learn(model, 400, body, json.dumps({name: 5}).encode(), SAMPLING)

    assert learn("max_tokens")
    assert shapes.of(model, SAMPLING).max_tokens_field == "max_completion_tokens"
    assert not learn("max_completion_tokens")
    assert shapes.of(model).max_tokens_field is None


@pytest.mark.parametrize("shares", [True, False])
async def test_a_student_that_refuses_sampling_is_asked_without_and_only_taught_once(shares: bool) -> None:
    def answer(request: Request) -> Any:
        sent = request.json
        if "temperature" in sent:
            return refusal("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature")
        if "max_tokens" in sent:
            return refusal("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.")
        return [reply(calling(*['{"city":"Oslo"}'] * sent.get("n", 1)))]

    with Upstream(answer) as near:
        async with deciding(near.url, shares=shares) as decide:
            decided = await decide(prompt(max_tokens=50))
            assert decided.answer is not None
            taught = len(near.requests)
            assert (await decide(prompt(max_tokens=60))).answer is not None
        later = [request.json for request in near.requests[taught:]]
        assert len(later) == (1 if shares else 3)
        assert all(one["max_completion_tokens"] == 60 and "temperature" not in one for one in later)
    assert all(call.status == 200 for call in decided.calls)


async def test_a_student_that_does_not_know_n_is_asked_as_often_as_needed() -> None:
    def answer(request: Request) -> Any:
        if request.json.get("n", 1) > 1:
            return refusal("Unrecognized request argument supplied: 'n'", "n")
        return [reply(calling('{"city":"Oslo"}'))]

    with Upstream(answer) as near:
        async with deciding(near.url, shares=True) as decide:
            decided = await decide()
            assert decided.answer is not None
            await decide()
        assert [request.json.get("n", 1) for request in near.requests] == [3, *[1] * 6]


def routed(url: str, *, dialect: str = "openai-chat", upstream: str = "", model: str = "") -> told.Gateway:
    text = f'[upstreams.u]\nbase_url = "{url}"\ndialect = "{dialect}"\n{upstream}\n[models.big]\nupstream = "u"\n'
    text += f'model = "big-1"\n{model}\n[routes.m]\nteacher = "big"\n'
    return parse(tomllib.loads(text), "here")


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES)])
def test_settings_shape_what_the_teacher_is_sent_translated_or_not(start, path: str, body: dict[str, Any]) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        settings = routed(upstream.url, upstream='omit = ["temperature"]', model='max_tokens_field = "max_tokens"')
        gateway = start(settings)
        assert gateway.post(path, {**body, "top_p": 0.9}).status == 200
        sent = upstream.requests[0].json
    assert "temperature" not in sent
    assert (sent["max_tokens"], sent["top_p"], sent["model"]) == (50, 0.9, "big-1")
    assert "max_completion_tokens" not in sent


def test_what_a_client_set_for_the_teacher_is_not_dropped_behind_its_back(start) -> None:
    said = "Unsupported value: 'temperature' does not support 0.5 with this model."
    with Upstream(lambda request: refusal(said, "temperature")) as upstream:
        gateway = start(routed(upstream.url))
        for path, body in (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES)):
            answered = gateway.post(path, body)
            assert answered.status == 400
            assert said in answered.json["error"]["message"]
        assert len(upstream.requests) == 2
        assert upstream.requests[0].json["temperature"] == 0.5


def test_the_name_that_translation_chose_for_the_limit_is_corrected(start) -> None:
    def answer(request: Request) -> Any:
        if "max_completion_tokens" in request.json:
            return refusal("Extra inputs are not permitted: max_completion_tokens", status=422)
        return reply(chat_answer())

    with Upstream(answer) as upstream:
        gateway = start(routed(upstream.url))
        assert gateway.post("/v1/messages", MESSAGES).status == 200
        assert gateway.post("/v1/messages", MESSAGES).status == 200
        limits = [(one.json.get("max_completion_tokens"), one.json.get("max_tokens")) for one in upstream.requests]
        assert limits == [(50, None), (None, 50), (None, 50)]
        own = {**CHAT, "max_completion_tokens": 7}
        assert gateway.post("/v1/chat/completions", own).status == 422


@pytest.mark.parametrize(
    ("upstream", "model", "dialect", "word"),
    [
        ('omit = ["messages"]', "", "openai-chat", "which every request needs"),
        ("", 'omit = ["model"]', "openai-chat", "which every request needs"),
        ('max_tokens_field = "max_output_tokens"', "", "openai-chat", "max_output_tokens"),
        ("", 'max_tokens_field = "max_tokens"', "anthropic", "openai-chat"),
    ],
)
def test_wrong_shapes_are_told_at_the_start(upstream: str, model: str, dialect: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        routed("http://h/v1", dialect=dialect, upstream=upstream, model=model)
