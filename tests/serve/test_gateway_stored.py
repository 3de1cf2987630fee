"""Lists of models, embeddings, counting, and what a provider keeps, through a running gateway, with official SDKs."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from upstream_double import CLOSE, END, STREAM, Request, Upstream, chat_answer, chunk, reply

from potstill.serve.settings import Gateway
from potstill.serve.settings_file import parse

ADMIN_KEY = "oX7-2kfLqP9zR4tVbN8wAa"
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-x",
    "status": "queued",
    "output": [],
    "background": True,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


def routed(text: str, **upstreams: tuple[str, str]) -> Gateway:
    told = "".join(
        f'[upstreams.{name}]\nbase_url = "{url}"\ndialect = "{dialect}"\n' for name, (url, dialect) in upstreams.items()
    )
    return parse(tomllib.loads(told + text), "here")


def provider(request: Request) -> Any:
    """OpenAI's, as far as it is asked here."""
    if request.path == "/v1/models":
        rows = [{"id": "gpt-x", "object": "model", "created": 1700000000, "owned_by": "openai"}, {"id": "auto"}]
        return reply({"object": "list", "data": rows})
    if request.path == "/v1/embeddings":
        rows = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
        return reply({"object": "list", "data": rows, "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2}})
    if request.path == "/v1/messages/count_tokens":
        return reply({"input_tokens": 12})
    if request.method == "DELETE":
        return reply({"id": "resp_1", "object": "response", "deleted": True})
    if request.path.endswith("/cancel"):
        return reply({**RESPONSE, "status": "cancelled"})
    if "chat/completions/" in request.path:
        return reply(chat_answer("kept"))
    if "resp_none" in request.path:
        return reply({"error": {"message": "no such response", "type": "invalid_request_error"}}, 404)
    if "stream=true" in request.path:
        event = {"type": "response.created", "sequence_number": 0, "response": RESPONSE}
        data = f"event: response.created\ndata: {json.dumps(event)}\n\n".encode()
        return [STREAM, chunk(data), *([0.05, CLOSE] if "resp_cut" in request.path else [END])]
    if request.path.endswith("/input_items"):
        return reply({"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None})
    return reply(RESPONSE)


def sdk(gateway: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0)


def test_the_list_has_virtual_names_and_those_that_are_passed_on(start) -> None:
    with Upstream(provider) as upstream:
        text = '[gateway]\npassthrough = "u"\n[models.b]\nupstream = "u"\nmodel = "b"\n'
        text += '[routes.auto]\nteacher = "b"\n[routes."potstill/auto"]\nteacher = "b"\n'
        gateway = start(routed(text, u=(upstream.url, "openai-chat")))
        client = sdk(gateway)
        found = {model.id: model for model in client.models.list()}
        assert list(found) == ["auto", "potstill/auto", "gpt-x"]
        assert (found["gpt-x"].owned_by, found["gpt-x"].created) == ("openai", 1700000000)
        assert found["auto"].owned_by == "potstill"
        assert client.models.retrieve("potstill/auto").id == "potstill/auto"
        assert client.models.retrieve("gpt-x").owned_by == "openai"
        with pytest.raises(openai.NotFoundError, match="nothing-like-it"):
            client.models.retrieve("nothing-like-it")
        near = anthropic.Anthropic(base_url=gateway.url, api_key="k", max_retries=0)
        listed = {model.id: model for model in near.models.list()}
        assert list(listed) == list(found)
        assert (listed["gpt-x"].type, listed["gpt-x"].display_name, listed["gpt-x"].created_at.year) == (
            "model",
            "gpt-x",
            2023,
        )
        with pytest.raises(anthropic.NotFoundError):
            near.models.retrieve("nothing-like-it")


def test_an_upstream_that_lists_nothing_does_not_hide_the_routes(start) -> None:
    text = '[gateway]\npassthrough = "u"\n[models.b]\nupstream = "u"\nmodel = "b"\n[routes.auto]\nteacher = "b"\n'
    for answer in (reply(b"<html>"), reply({}, 404), reply({"data": 5}), reply({"data": [{"id": 5}]}), [CLOSE]):
        with Upstream(lambda request, answer=answer: answer) as upstream:
            gateway = start(routed(text, u=(upstream.url, "openai-chat")))
            assert [model.id for model in sdk(gateway).models.list()] == ["auto"]
            gateway.server.stop()


def test_only_names_that_may_be_asked_are_listed_where_nothing_is_passed_on(start) -> None:
    with Upstream(provider) as upstream:
        gateway = start(teacher=f"{upstream.url}#b")
        assert [model.id for model in sdk(gateway).models.list()] == ["any"]
        assert not upstream.requests


def test_embeddings_and_counts_are_passed_on(start) -> None:
    with Upstream(provider) as upstream:
        text = '[models.e]\nupstream = "u"\nmodel = "e-1"\n[models.c]\nupstream = "a"\nmodel = "c-1"\n'
        text += '[routes.embed]\nteacher = "e"\n[routes.claude]\nteacher = "c"\n'
        settings = routed(text, u=(upstream.url, "openai-chat"), a=(upstream.url, "anthropic"))
        gateway = start(settings)
        made = sdk(gateway).embeddings.create(model="embed", input="hi", encoding_format="float")
        assert made.data[0].embedding == [0.5, 1.0]
        assert upstream.requests[-1].json["model"] == "e-1"
        near = anthropic.Anthropic(base_url=gateway.url, api_key="k", max_retries=0)
        told = near.messages.count_tokens(model="claude", messages=[{"role": "user", "content": "hi"}])
        assert told.input_tokens == 12
        assert upstream.requests[-1].json["model"] == "c-1"
        with pytest.raises(anthropic.NotFoundError, match="speaks openai-chat"):
            near.messages.count_tokens(model="embed", messages=[{"role": "user", "content": "hi"}])


def test_stored_responses_are_fetched_cancelled_and_deleted(start) -> None:
    with Upstream(provider) as upstream:
        text = '[models.b]\nupstream = "u"\nmodel = "gpt-x"\n[routes.big]\nteacher = "b"\n'
        gateway = start(routed(text, u=(upstream.url, "openai-responses")))
        client = sdk(gateway)
        begun = client.responses.create(model="big", input="hi", background=True)
        assert (begun.status, upstream.requests[-1].json["background"]) == ("queued", True)
        assert client.responses.retrieve("resp_1", include=["message.output_text.logprobs"]).id == "resp_1"
        assert upstream.requests[-1].path.startswith("/v1/responses/resp_1?include")
        assert client.responses.cancel("resp_1").status == "cancelled"
        assert list(client.responses.input_items.list("resp_1")) == []
        client.responses.delete("resp_1")
        assert [(one.method, one.path) for one in upstream.requests[-1:]] == [("DELETE", "/v1/responses/resp_1")]
        assert [event.type for event in client.responses.retrieve("resp_1", stream=True)] == ["response.created"]
        with pytest.raises(openai.NotFoundError, match="no such response"):
            client.responses.retrieve("resp_none")
        first, last = client.responses.retrieve("resp_cut", stream=True)
        assert (first.type, last.type) == ("response.created", "error")
        assert "broke off" in last.message
    assert [exchange.status for exchange in gateway.exchanges()] == [200]


def test_stored_chat_completions_are_fetched(start) -> None:
    with Upstream(provider) as upstream:
        gateway = start(teacher=f"{upstream.url}#b")
        client = sdk(gateway)
        assert client.chat.completions.retrieve("chatcmpl-1").choices[0].message.content == "kept"
        client.chat.completions.update("chatcmpl-1", metadata={"a": "b"})
        assert (upstream.requests[-1].method, upstream.requests[-1].json) == ("POST", {"metadata": {"a": "b"}})
        with pytest.raises(openai.NotFoundError, match="No upstream here speaks openai-responses"):
            client.responses.retrieve("resp_1")
        assert gateway.get("/chat/completions/chatcmpl-1").status == 200


def test_where_several_upstreams_keep_things_the_client_says_whose_it_is(start) -> None:
    with Upstream(provider) as one, Upstream(provider) as two:
        text = '[models.a]\nupstream = "a"\nmodel = "x"\n[models.b]\nupstream = "b"\nmodel = "x"\n'
        text += '[models.c]\nupstream = "c"\nmodel = "x"\n'
        text += '[routes.a]\nteacher = "a"\n[routes.b]\nteacher = "b"\n[routes.c]\nteacher = "c"\n'
        speaks = "openai-responses"
        gateway = start(routed(text, a=(one.url, speaks), b=(two.url, speaks), c=(one.url, "anthropic")))
        client = sdk(gateway)
        with pytest.raises(openai.BadRequestError, match="x-potstill-model"):
            client.responses.retrieve("resp_1")
        client.responses.retrieve("resp_1", extra_headers={"x-potstill-model": "b"})
        assert (len(one.requests), len(two.requests)) == (0, 1)
        for name, word in (("c", "speaks anthropic"), ("nobody", "nobody")):
            with pytest.raises(openai.NotFoundError, match=word):
                client.responses.retrieve("resp_1", extra_headers={"x-potstill-model": name})


def test_what_is_kept_needs_a_key_and_the_right_to_its_model(start, monkeypatch: pytest.MonkeyPatch) -> None:
    with Upstream(provider) as upstream:
        text = '[gateway]\nkeys_required = true\n[models.b]\nupstream = "u"\nmodel = "x"\n[routes.big]\nteacher = "b"\n'
        settings = routed(text, u=(upstream.url, "openai-responses"))
        gateway = start(settings, admin_key=ADMIN_KEY)
        for method in ("GET", "DELETE"):
            connection = gateway.connect()
            connection.request(method, "/v1/responses/resp_1")
            assert connection.getresponse().status == 401
            connection.close()
        assert not upstream.requests


def test_tenants_fetch_what_others_had_stored_only_where_the_settings_say_so(start) -> None:
    with Upstream(provider) as upstream:
        text = '[gateway]\nkeys_required = true\n[models.b]\nupstream = "u"\nmodel = "x"\n[routes.big]\nteacher = "b"\n'
        settings = routed(text, u=(upstream.url, "openai-responses"))
        endpoint = msgspec.structs.replace(settings.upstreams[0], share_stored=True)
        for shared in (False, True):
            told = msgspec.structs.replace(settings, upstreams=(endpoint,)) if shared else settings
            gateway = start(told, admin_key=ADMIN_KEY)
            made = gateway.post("/v1/potstill/keys", {"tenant": "team-a"}, authorization=f"Bearer {ADMIN_KEY}")
            client = openai.OpenAI(base_url=gateway.url + "/v1", api_key=made.json["text"], max_retries=0)
            if shared:
                assert client.responses.retrieve("resp_1").id == "resp_1"
                continue
            with pytest.raises(openai.PermissionDeniedError, match="share_stored"):
                client.responses.retrieve("resp_1")
            with pytest.raises(openai.PermissionDeniedError, match="share_stored"):
                client.responses.delete("resp_1")
            assert not upstream.requests


@pytest.mark.parametrize(
    "path",
    ["/v1/responses/..", "/v1/responses/%2e%2e%2fmodels", "/v1/responses/a/b", "/v1/responses/a%3Fx", "/v1/responses/",
     "/v1/responses/" + "a" * 200, "/v1/responses/resp_1?a=<x>", "/v1/responses/%0d%0aHost:x"],
)  # fmt: skip
def test_no_path_leads_elsewhere(start, path: str) -> None:
    with Upstream(provider) as upstream:
        gateway = start(teacher=f"{upstream.url}#b", dialect="openai-responses")
        assert gateway.get(path).status in (400, 404)
        assert not upstream.requests
        assert gateway.post("/v1/responses/resp_1", {}).status == 405
