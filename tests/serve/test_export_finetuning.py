"""What a gateway recorded, as files to learn from: each line by the rules that its readers publish."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.cli.main import main
from potstill.record.fold import trajectory_of
from potstill.serve import settings_file
from potstill.serve.settings import Gateway
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange, Recorded
from potstill.trajectories.exchange import Upstream as Called
from potstill.trajectories.finetuning import Unfit, conversations
from potstill.trajectories.openai_chat import conversation
from potstill.types import Answerer, Outcome, Step, Trajectory

SECRET = "sk-" + "proj-" + "PlAnTeD0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n not really a picture").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAME = re.compile(r"\A[a-zA-Z0-9_-]{1,64}\Z")


# --- the rules --------------------------------------------------------------------------------------------------------


def check_openai(line: dict[str, Any]) -> None:
    """OpenAI's guide to supervised fine-tuning and the types of its SDK (FineTuneChatRequestInput)."""
    pydantic = pytest.importorskip("pydantic")
    chat = pytest.importorskip("openai.types.chat")
    assert set(line) <= {"messages", "tools", "parallel_tool_calls"}
    roles: dict[str, Any] = {
        "system": chat.ChatCompletionSystemMessageParam,
        "user": chat.ChatCompletionUserMessageParam,
        "assistant": chat.ChatCompletionAssistantMessageParam,
        "tool": chat.ChatCompletionToolMessageParam,
    }
    waiting: list[str] = []
    for message in line["messages"]:
        role = message["role"]
        plain = {name: value for name, value in message.items() if name != "weight"}
        assert set(plain) <= set(roles[role].__annotations__)
        adapter = pydantic.TypeAdapter(roles[role])
        adapter.dump_json(adapter.validate_python(plain))  # reads what it validates only now, too
        if role == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting, "a call of a tool without an answer"
        if role == "assistant":
            assert message["content"] or message.get("tool_calls")
            assert message.get("weight", 1) in (0, 1)
            waiting = [call["id"] for call in message.get("tool_calls", [])]
            for call in message.get("tool_calls", []):
                assert call["type"] == "function"
                assert NAME.match(call["function"]["name"])
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
        else:
            assert "weight" not in message
        if role != "user":
            assert isinstance(message["content"], str | None)
    assert line["messages"][-1]["role"] == "assistant"
    assert any(m["role"] == "assistant" and m.get("weight", 1) for m in line["messages"])
    for tool in line.get("tools", []):
        pydantic.TypeAdapter(chat.ChatCompletionToolParam).validate_python(tool)
        assert NAME.match(tool["function"]["name"])


def check_trl(row: dict[str, Any]) -> None:
    """TRL's dataset formats: conversational, arguments are objects, a tool's message names its tool."""
    assert set(row) <= {"messages", "prompt", "completion", "tools"}
    assert ("messages" in row) != ("prompt" in row and "completion" in row)
    messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    for message in messages:
        assert isinstance(message["content"], str)
        assert "weight" not in message
        for call in message.get("tool_calls", []):
            assert isinstance(call["function"]["arguments"], dict)
        if message["role"] == "tool":
            assert NAME.match(message["name"])
    assert messages[-1]["role"] == "assistant"
    if "completion" in row:
        assert len(row["completion"]) == 1
        assert row["prompt"][-1]["role"] in ("user", "tool")


# --- an agent in each dialect -----------------------------------------------------------------------------------------


def answers(request: Request) -> bytes:
    """Two calls of a tool at once, behind a thought; when their results are there, a text."""
    again = b"18 degrees" in request.body
    calls = [("c1", "Oslo"), ("c2", "Rome")]
    if request.path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": "Rome." if again else None}
        if not again:
            message["reasoning_content"] = "I must look."
            message["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": "look", "arguments": json.dumps({"city": city})}}
                for id, city in calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": "stop" if again else "tool_calls"}
        return reply({**chat_answer(), "choices": [choice]})
    if request.path.endswith("/responses"):
        text = {"type": "output_text", "text": "Rome.", "annotations": []}
        items: list[dict[str, Any]] = [
            {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
        ]
        if not again:
            items = [{"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "I must look."}]}]
            items += [
                {"type": "function_call", "id": f"f{id}", "call_id": id, "name": "look", "status": "completed",
                 "arguments": json.dumps({"city": city})}
                for id, city in calls
            ]  # fmt: skip
        usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
        response = {"id": f"resp-{again}", "object": "response", "created_at": 1, "status": "completed"}
        return reply({**response, "model": "big-1", "output": items, "usage": usage})
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "Rome."}]
    if not again:
        blocks = [{"type": "thinking", "thinking": "I must look.", "signature": "c2ln"}]
        blocks += [{"type": "tool_use", "id": id, "name": "look", "input": {"city": city}} for id, city in calls]
    message = {"id": f"msg-{again}", "type": "message", "role": "assistant", "model": "big-1", "content": blocks}
    ended = {"stop_reason": "end_turn" if again else "tool_use", "stop_sequence": None}
    return reply({**message, **ended, "usage": {"input_tokens": 5, "output_tokens": 2}})


def chat_agent(post: Callable[..., Any], *, image: bool) -> None:
    shown: Any = f"Which is warmer? My key is {SECRET}"
    if image:
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        shown = [{"type": "text", "text": shown}, url]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": shown}]
    function = {"name": "look", "description": "Look.", "parameters": SCHEMA}
    asked = {"model": "m", "tools": [{"type": "function", "function": function}]}
    said = post("/v1/chat/completions", {**asked, "messages": messages}).json["choices"][0]["message"]
    messages += [said] + [
        {"role": "tool", "tool_call_id": call["id"], "content": f"{n} degrees"}
        for call, n in zip(said["tool_calls"], (7, 18), strict=True)
    ]
    post("/v1/chat/completions", {**asked, "messages": [*messages, {"role": "user", "content": "Be quick."}]})


def responses_agent(post: Callable[..., Any], *, image: bool) -> None:
    shown: list[Any] = [{"type": "input_text", "text": f"Which is warmer? My key is {SECRET}"}]
    shown += [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}] * image
    items: list[Any] = [{"role": "user", "content": shown}]
    tool = {"type": "function", "name": "look", "description": "Look.", "parameters": SCHEMA}
    asked = {"model": "m", "tools": [tool], "instructions": "Be brief."}
    said = post("/v1/responses", {**asked, "input": items}).json["output"]
    items += said + [
        {"type": "function_call_output", "call_id": id, "output": f"{n} degrees"} for id, n in (("c1", 7), ("c2", 18))
    ]
    post("/v1/responses", {**asked, "input": [*items, {"role": "user", "content": "Be quick."}]})


def anthropic_agent(post: Callable[..., Any], *, image: bool) -> None:
    shown: list[Any] = [{"type": "text", "text": f"Which is warmer? My key is {SECRET}"}]
    shown += [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}] * image
    messages: list[Any] = [{"role": "user", "content": shown}]
    tool = {"name": "look", "description": "Look.", "input_schema": SCHEMA}
    asked = {"model": "m", "max_tokens": 50, "tools": [tool], "system": "Be brief."}
    said = post("/v1/messages", {**asked, "messages": messages}).json["content"]
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": id, "content": f"{n} degrees"} for id, n in (("c1", 7), ("c2", 18))
    ]
    results.append({"type": "text", "text": "Be quick."})
    messages += [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
    post("/v1/messages", {**asked, "messages": messages})


AGENTS: dict[str, Callable[..., None]] = {
    "openai-chat": chat_agent,
    "openai-responses": responses_agent,
    "anthropic": anthropic_agent,
}


def settings(url: str, dialect: str) -> Gateway:
    base = url.removesuffix("/v1") if dialect == "anthropic" else url
    made = settings_file.from_flags(f"{base}#big-1", dialect=dialect)
    return msgspec.structs.replace(made, limits=msgspec.structs.replace(made.limits, idle_episode_s=0.2))


@pytest.fixture
def recorded(start: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Three episodes through a gateway of this dialect, one with an image; the last one failed. The store's path."""
    with Upstream(answers) as upstream:

        def record(dialect: str) -> Path:
            running = start(settings(upstream.url, dialect))
            for name, image, success in (("ep-1", False, True), ("ep-2", True, True), ("ep-3", False, False)):

                def post(path: str, body: Any, name: str = name) -> Any:
                    return running.post(path, body, x_potstill_episode=name, x_potstill_goal="Never shown")

                AGENTS[dialect](post, image=image)
                told = running.post(f"/v1/episodes/{name}/outcome", {"success": success})
                assert told.status == 200, told.body
            until = time.monotonic() + 120
            with Store.read(running.settings.db) as store:
                while len(store.ids()) < 3 and time.monotonic() < until:
                    time.sleep(0.05)
            running.stop().close()
            return Path(running.settings.db)

        yield record


def exported(db: Path, format: str, *options: str) -> list[dict[str, Any]]:
    path = db.parent / f"{format}.jsonl"
    with pytest.raises(SystemExit) as ended:
        main(["trajectories", "export", "--db", str(db), "--format", format, "-o", str(path), *options])
    assert ended.value.code == 0
    assert SECRET.encode() not in path.read_bytes()
    return [json.loads(line) for line in path.read_text().splitlines()]


CALLED = [("c1", {"city": "Oslo"}), ("c2", {"city": "Rome"})]


@pytest.mark.parametrize("dialect", AGENTS)
def test_lines_of_every_dialect_keep_the_rules_and_say_the_same(
    dialect: str, recorded: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    db = recorded(dialect)
    lines = exported(db, "openai-chat")
    assert len(lines) == 2, "the episode that failed is not to be learnt"
    for line in lines:
        check_openai(line)
        messages = line["messages"]
        roles = ["system", "user", "assistant", "tool", "tool", "user", "assistant"]
        assert [message["role"] for message in messages] == roles
        assert messages[0]["content"] == "Be brief."
        calls = messages[2]["tool_calls"]
        assert [(c["id"], json.loads(c["function"]["arguments"])) for c in calls] == CALLED
        assert [m["content"] for m in messages[3:]] == ["7 degrees", "18 degrees", "Be quick.", "Rome."]
        assert [tool["function"] for tool in line["tools"]] == [
            {"name": "look", "description": "Look.", "parameters": SCHEMA}
        ]
    said = json.dumps(lines)
    assert "Never shown" not in said, "the goal stood in a header: the model never saw it"
    assert "I must look" not in said
    text, picture = lines[1]["messages"][1]["content"]
    assert text["text"].startswith("Which is warmer?")
    assert picture == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert len(exported(db, "openai-chat", "--all-outcomes")) == 3
    capsys.readouterr()
    assert exported(db, "openai-chat", "--answerer", "student") == []
    assert "2 left out: none of its answers is wanted" in capsys.readouterr().err


@pytest.mark.parametrize("dialect", AGENTS)
def test_rows_for_trl_keep_its_rules(
    dialect: str, recorded: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    db = recorded(dialect)
    (whole,) = exported(db, "trl")
    check_trl(whole)
    assert "1 left out: it holds images, which this format cannot say" in capsys.readouterr().err
    rows = exported(db, "trl-steps", "--answerer", "teacher")
    for row in rows:
        check_trl(row)
    assert [len(row["prompt"]) for row in rows] == [2, 6]
    assert [row["prompt"] + row["completion"] for row in rows] == [whole["messages"][:3], whole["messages"]]
    assert [call["function"]["arguments"] for call in rows[0]["completion"][0]["tool_calls"]] == [
        {"city": "Oslo"},
        {"city": "Rome"},
    ]
    assert whole["messages"][3]["name"] == "look"


# --- which conversations there are ------------------------------------------------------------------------------------


def asked(*messages: tuple[str, str], answer: str, by: Answerer = Answerer.TEACHER, **changes: Any) -> Exchange:
    body = {"model": "m", "messages": [{"role": role, "content": text} for role, text in messages]}
    call = Called(model=by.value, upstream="up", answerer=by, dialect="openai-chat", status=200)
    response = json.dumps(chat_answer(answer)).encode()
    fields: dict[str, Any] = {
        "namespace": "default",
        "episode_id": "ep-1",
        "route": "m",
        "dialect": "openai-chat",
        "started_at": 1.0,
        "request": json.dumps(body).encode(),
        "response": response,
        "answerer": by,
        "calls": (call,),
        **changes,
    }
    return Exchange(**fields)


def folded(*exchanges: Exchange) -> Trajectory:
    rows = [
        Recorded(seq=seq, exchange=msgspec.structs.replace(one, started_at=float(seq)))
        for seq, one in enumerate(exchanges, 1)
    ]
    return trajectory_of(rows, namespace="default", episode_id="ep-1", outcome=Outcome(success=True))


def texts(trajectory: Trajectory, *answerers: Answerer) -> list[list[tuple[str, bool]]]:
    found = conversations(trajectory, answerers) if answerers else conversations(trajectory)
    return [[(m.content, at in one.learnt) for at, m in enumerate(one.messages)] for one in found]


FIRST = (("system", "Be brief."), ("user", "one"))


def test_a_cascades_student_is_shown_and_not_learnt() -> None:
    second = (*FIRST, ("assistant", "two"), ("user", "three"))
    third = (*second, ("assistant", "four"), ("user", "five"))
    trajectory = folded(
        asked(*FIRST, answer="two"),
        asked(*second, answer="four", by=Answerer.STUDENT),
        asked(*third, answer="six"),
    )
    everybody = [("Be brief.", False), ("one", False), ("two", True), ("three", False), ("four", True), ("five", False)]
    assert texts(trajectory) == [[*everybody, ("six", True)]]
    teacher = [(text, learnt and text != "four") for text, learnt in everybody]
    assert texts(trajectory, Answerer.TEACHER) == [[*teacher, ("six", True)]]
    (said,) = conversations(trajectory, {Answerer.TEACHER})
    assert said.others == {4}


def test_a_student_that_was_shown_demonstrations_does_not_break_the_teachers_conversation() -> None:
    second = (*FIRST, ("assistant", "two"), ("user", "three"))
    third = (*second, ("assistant", "four"), ("user", "five"))
    shown = {"model": "s", "messages": [{"role": "user", "content": "Like so: ..."}, {"role": "user", "content": "x"}]}
    call = Called(
        model="s",
        upstream="near",
        answerer=Answerer.STUDENT,
        dialect="openai-chat",
        status=200,
        request=json.dumps(shown).encode(),
        response=json.dumps(chat_answer("four")).encode(),
    )
    trajectory = folded(
        asked(*FIRST, answer="two"),
        asked(*second, answer="four", by=Answerer.STUDENT, calls=(call,)),
        asked(*third, answer="six"),
    )
    (said,) = texts(trajectory, Answerer.TEACHER)
    assert [text for text, learnt in said if learnt] == ["two", "six"]
    assert "Like so: ..." not in [text for text, _ in said]


def test_examples_in_the_prompt_are_not_learnt() -> None:
    shots = (("system", "Be brief."), ("user", "0"), ("assistant", "1"), ("user", "1"))
    (said,) = texts(folded(asked(*shots, answer="2")))
    assert said == [("Be brief.", False), ("0", False), ("1", False), ("1", False), ("2", True)]
    line = conversation(folded(asked(*shots, answer="2")))
    check_openai(line)
    assert [message.get("weight") for message in line["messages"]] == [None, None, 0, None, None]


def test_a_history_that_was_compacted_is_another_conversation() -> None:
    trajectory = folded(
        asked(*FIRST, answer="two"),
        asked(("system", "Be brief."), ("user", "so far: one, two"), answer="three"),
        asked(*FIRST, ("assistant", "two"), ("user", "and?"), answer="four"),
    )
    found = texts(trajectory)
    assert [[text for text, learnt in one if learnt] for one in found] == [["two", "four"], ["three"]]


def test_steps_that_failed_or_say_nothing_are_left_out() -> None:
    refused = asked(*FIRST, answer="", status=500, response=b'{"error":{"message":"no"}}', answerer=Answerer.NOBODY)
    cut = asked(*FIRST, answer="tw", complete=False)
    silent = asked(*FIRST, ("assistant", "two"), ("user", "three"), answer="")
    trajectory = folded(refused, cut, asked(*FIRST, answer="two"), silent)
    assert texts(trajectory) == [[("Be brief.", False), ("one", False), ("two", True)]]
    with pytest.raises(Unfit, match="none of its answers"):
        conversations(folded(refused))


def test_an_episode_whose_images_are_not_in_the_store_is_left_out() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, picture]}]}
    with pytest.raises(Unfit, match="images by address"):
        conversations(folded(asked(answer="a cat", request=json.dumps(body).encode())))


def test_other_tenants_rows_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "two.db"
    with Store.open(path) as store:
        for tenant in ("default", "acme"):
            made = folded(asked(("user", f"of {tenant}"), answer="yes"))
            store.append(msgspec.structs.replace(made, id=f"{tenant}/ep-1", namespace=tenant))
    for format in ("openai-chat", "trl", "trl-steps"):
        assert "of acme" not in json.dumps(exported(path, format))
        (row,) = exported(path, format, "--namespace", "acme")
        assert "of acme" in json.dumps(row)


def test_a_step_without_a_recorded_call_is_not_made_up() -> None:
    made = folded(asked(*FIRST, answer="two"))
    step = made.steps[0]
    bare = (Step(index=0, observation=step.observation, action=step.action, answerer=step.answerer),)
    with pytest.raises(Unfit):
        conversations(msgspec.structs.replace(made, steps=bare))
