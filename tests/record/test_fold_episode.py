"""An episode's exchanges become one trajectory: steps, calls, who answered, and nothing lost for being unreadable."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from potstill.cli.main import main
from potstill.record.fold import trajectory_of
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange, Recorded, Upstream
from potstill.trajectories.export import export
from potstill.types import (
    Answerer,
    Blob,
    Decision,
    DemonstrationRef,
    ErrorRecord,
    FinishReason,
    Outcome,
    Reason,
    TrajectoryKind,
    Vote,
)

Message = dict[str, Any]
TOOL = {
    "type": "function",
    "function": {"name": "search", "description": "Find flights", "parameters": {"type": "object"}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"to": "Oslo"}'}}
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}
SYSTEM = {"role": "system", "content": "Book flights."}


def body(*messages: Message, **fields: Any) -> bytes:
    return json.dumps({"model": "gpt", "messages": [SYSTEM, *messages], "tools": [TOOL], **fields}).encode()


def answer(*messages: Message, finish: str = "stop") -> bytes:
    choices = [{"index": n, "message": message, "finish_reason": finish} for n, message in enumerate(messages)]
    return json.dumps({"id": "c-1", "model": "gpt-4.1-mini", "choices": choices, "usage": USAGE}).encode()


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str | None, *calls: Message) -> Message:
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


def teacher(**fields: Any) -> Upstream:
    return Upstream(
        **{
            "model": "gpt-4.1-mini",
            "upstream": "openai",
            "answerer": Answerer.TEACHER,
            "dialect": "openai-chat",
            "latency_s": 0.5,
        }
        | fields
    )


def exchange(request: bytes, response: bytes, at: float = 0.0, **fields: Any) -> Exchange:
    known: dict[str, Any] = {
        "namespace": "acme",
        "episode_id": "ep-1",
        "route": "gpt",
        "dialect": "openai-chat",
        "started_at": at,
        "latency_s": 0.6,
        "calls": (teacher(started_at=at),),
    }
    return Exchange(request=request, response=response, **known | fields)


def fold(*exchanges: Exchange, **options: Any) -> Any:
    numbered = [Recorded(seq=seq, exchange=one) for seq, one in enumerate(exchanges, 1)]
    return trajectory_of(numbered, namespace="acme", episode_id="ep-1", **options)


def booking() -> list[Exchange]:
    """Two steps: a tool call, then the answer."""
    called = said(None, CALL)
    result = {"role": "tool", "tool_call_id": "call_1", "content": "SK123"}
    return [
        exchange(body(user("To Oslo please")), answer(called, finish="tool_calls"), 10.0),
        exchange(body(user("To Oslo please"), called, result), answer(said("Booked SK123.")), 12.0),
    ]


def test_steps_hold_what_was_seen_done_and_billed() -> None:
    trajectory = fold(*booking(), outcome=Outcome(success=True))
    assert (trajectory.id, trajectory.namespace, trajectory.kind) == ("acme/ep-1", "acme", TrajectoryKind.TEACHER)
    assert (trajectory.goal, trajectory.teacher, trajectory.student) == ("To Oslo please", "gpt-4.1-mini", None)
    assert (trajectory.started_at, trajectory.duration_s) == (10.0, pytest.approx(2.6))
    assert trajectory.succeeded
    first, second = trajectory.steps
    assert first.observation.text == "To Oslo please"
    assert [tool.name for tool in first.observation.tools] == ["search"]
    assert [(c.id, c.name, c.arguments) for c in first.action.tool_calls] == [("call_1", "search", '{"to": "Oslo"}')]
    assert [(r.call_id, r.text) for r in second.observation.tool_results] == [("call_1", "SK123")]
    assert (second.observation.text, second.action.text) == ("", "Booked SK123.")
    call = second.calls[0]
    assert [message.role for message in call.prompt] == ["system", "user", "assistant", "tool"]
    assert call.prompt[2].tool_calls == first.action.tool_calls
    assert call.prompt[0] is first.calls[0].prompt[0], "what a prompt repeats is not held twice"
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.cache_read_tokens, call.usage.output_tokens) == (100, 60, 10)
    assert (call.raw_usage, call.latency_s, call.request_id) == (USAGE, 0.5, "c-1")
    assert first.calls[0].replies[0].finish_reason is FinishReason.TOOL_CALLS
    assert trajectory.metadata == {"episode_id": "ep-1", "routes": ["gpt"], "dialects": ["openai-chat"]}


def test_order_is_that_of_the_journal_not_of_the_list() -> None:
    one, two = (Recorded(seq=seq, exchange=each) for seq, each in enumerate(booking(), 1))
    left = trajectory_of([two, one], namespace="acme", episode_id="ep-1")
    assert left == trajectory_of([one, two], namespace="acme", episode_id="ep-1")


def test_a_stream_is_read_like_a_whole_answer_and_one_that_broke_keeps_what_came() -> None:
    events = [
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Bo"}}]},
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "oked"}}]},
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "c", "model": "m", "choices": [], "usage": USAGE},
    ]
    frames = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
    whole = fold(exchange(body(user("q"), stream=True), b"".join(frames) + b"data: [DONE]\n\n", streamed=True))
    assert (whole.steps[0].action.text, whole.steps[0].error) == ("Booked", None)
    assert whole.steps[0].calls[0].usage.output_tokens == 10
    cut = fold(exchange(body(user("q"), stream=True), frames[0], streamed=True, complete=False))
    assert cut.steps[0].action.text == "Bo"
    assert cut.steps[0].error is not None
    assert cut.error is None, "a client that stops reading breaks no episode"


def test_a_failed_try_joins_the_step_that_it_was_repeated_for() -> None:
    refused = ErrorRecord(kind="rate_limit", message="slow down")
    failed = exchange(
        body(user("q")),
        b'{"error":{"message":"slow down","type":"rate_limit_error"}}',
        status=429,
        error=refused,
        calls=(teacher(status=429, error=refused),),
    )
    trajectory = fold(failed, exchange(body(user("q")), answer(said("a")), 5.0))
    (step,) = trajectory.steps
    assert (step.action.text, step.error, len(step.calls)) == ("a", None, 2)
    assert step.calls[0].error == refused
    assert step.calls[0].replies == ()
    assert step.latency_s == pytest.approx(1.2)
    broken = fold(failed)
    assert broken.error == refused
    assert broken.steps[0].answerer is Answerer.NOBODY


def test_of_samples_that_the_client_draws_the_one_it_went_on_with_is_the_action() -> None:
    step = [user("q"), said("one"), user("go")]
    drawn = [exchange(body(*step), answer(said(text)), 5.0 + n) for n, text in enumerate(("x", "y", "z"))]
    then = exchange(body(*step, said("y"), user("on")), answer(said("end")), 9.0)
    trajectory = fold(exchange(body(user("q")), answer(said("one"))), *drawn, then)
    assert [one.action.text for one in trajectory.steps] == ["one", "y", "end"]
    assert [len(one.calls) for one in trajectory.steps] == [1, 3, 1]
    several = exchange(body(user("q"), n=2), answer(said("no"), said("yes")))
    assert (
        fold(several, exchange(body(user("q"), said("yes"), user("go")), answer(said("e")), 2.0)).steps[0].action.text
        == "yes"
    )


def test_the_same_first_prompt_later_on_is_another_step() -> None:
    asked = [exchange(body(user("ping")), answer(said("pong")), at) for at in (0.0, 60.0)]
    assert len(fold(*asked).steps) == 2
    together = [exchange(body(user("ping")), answer(said("pong")), at) for at in (0.0, 0.1)]
    assert len(fold(*together).steps) == 1


def test_a_cascade_keeps_votes_both_sides_calls_and_demonstrations() -> None:
    student = Upstream(
        model="small",
        upstream="local",
        answerer=Answerer.STUDENT,
        dialect="openai-chat",
        price_as="haiku",
        n=2,
        request=body(user("shown: ..."), user("q"), n=2, temperature=0.7),
        response=answer(said("a"), said("b")),
    )
    decision = Decision(
        answerer=Answerer.TEACHER,
        reason=Reason.DISAGREED,
        votes=(Vote(key="a"), Vote(key="b")),
        agreement=0.5,
        samples=2,
    )
    shown = (DemonstrationRef(trajectory_id="acme/ep-0", start=0, stop=2),)
    escalated = exchange(
        body(user("q")),
        answer(said("t")),
        calls=(student, teacher()),
        decision=decision,
        demonstrations=shown,
        stage="canary/cascade",
        notes=("retrieval was slow",),
        metadata={"goal": "Fly", "task": "t-1", "plan": "p", "observation": "exactly this", "tags": "x"},
    )
    trajectory = fold(escalated)
    (step,) = trajectory.steps
    assert (trajectory.kind, trajectory.arm) == (TrajectoryKind.CASCADE, "canary/cascade")
    assert (trajectory.goal, trajectory.plan, trajectory.task.id) == ("Fly", "p", "t-1")
    assert (trajectory.student, trajectory.teacher) == ("small", "gpt-4.1-mini")
    assert (step.decision, step.demonstrations, step.observation.text) == (decision, shown, "exactly this")
    local, paid = step.calls
    assert (local.priced_as, local.temperature, [r.text for r in local.replies]) == ("haiku", 0.7, ["a", "b"])
    assert [message.content for message in local.prompt] == ["Book flights.", "shown: ...", "q"]
    assert [reply.text for reply in paid.replies] == ["t"]
    assert trajectory.metadata["tags"] == "x"
    assert trajectory.metadata["notes"] == ["retrieval was slow"]


def test_a_student_call_without_bytes_is_not_credited_with_the_teachers_answer() -> None:
    failed = Upstream(
        model="small",
        upstream="local",
        answerer=Answerer.STUDENT,
        dialect="openai-chat",
        error=ErrorRecord(kind="ModelUnavailable", message="refused"),
    )
    local, paid = fold(exchange(body(user("q")), answer(said("t")), calls=(failed, teacher()))).steps[0].calls
    assert local.replies == ()
    assert local.error is not None
    assert [reply.text for reply in paid.replies] == ["t"]


def test_a_shadow_joins_the_step_that_it_was_asked_beside() -> None:
    asked = Upstream(
        model="small",
        upstream="local",
        answerer=Answerer.STUDENT,
        dialect="openai-chat",
        shadow=True,
        response=answer(said("same")),
    )
    one, two = booking()
    one = exchange(one.request, one.response, 10.0, request_id="r-1")
    beside = exchange(b"", b"", 11.0, calls=(asked,), metadata={"shadow_of": "r-1", "acted": True, "agreed": False})
    trajectory = fold(one, two, beside)
    assert [[call.answerer.value for call in step.calls] for step in trajectory.steps] == [
        ["teacher", "student"],
        ["teacher"],
    ]
    assert trajectory.kind is TrajectoryKind.TEACHER
    assert trajectory.metadata["shadow"] == [{"step": 0, "acted": True, "agreed": False}]
    orphan = fold(beside)
    assert orphan.steps[0].error is not None
    assert orphan.steps[0].calls[0].replies[0].text == "same"


@pytest.mark.parametrize(
    ("request_bytes", "response", "dialect"),
    [
        (b"\xff\x00not json", answer(said("a")), "openai-chat"),
        (b'{"messages": 7}', answer(said("a")), "openai-chat"),
        (body(user("q")), b"<html>502</html>", "openai-chat"),
        (body(user("q")), b"", "openai-chat"),
        (body(user("q")), answer(said("a")), "a-dialect-of-tomorrow"),
        (b"[" * 100_000, b"[" * 100_000, "openai-chat"),
    ],
)
def test_what_cannot_be_read_is_a_step_with_an_error(request_bytes: bytes, response: bytes, dialect: str) -> None:
    one, two = booking()
    bad = exchange(request_bytes, response, 11.0, dialect=dialect)
    trajectory = fold(one, bad, two)
    assert len(trajectory.steps) == 3
    step = trajectory.steps[1]
    assert step.error is not None
    assert step.error.message
    assert [s.error for s in (trajectory.steps[0], trajectory.steps[2])] == [None, None]
    _stored(trajectory)


def test_images_become_blobs_where_somebody_keeps_them_and_are_counted_where_not() -> None:
    pixels = b"\x89PNG pixels"
    inline = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(pixels).decode()}"}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = exchange(
        body({"role": "user", "content": [{"type": "text", "text": "look"}, inline, linked]}), answer(said("a cat"))
    )
    kept: dict[str, bytes] = {}

    def put(content: bytes, media_type: str) -> Blob:
        digest = hashlib.sha256(content).hexdigest()
        kept[digest] = content
        return Blob(digest=digest, media_type=media_type, size_bytes=len(content))

    with_blobs = fold(asked, put_blob=put)
    assert list(kept.values()) == [pixels]
    assert [image.media_type for image in with_blobs.steps[0].observation.images] == ["image/png"]
    assert with_blobs.steps[0].calls[0].prompt[1].images == with_blobs.steps[0].observation.images
    assert with_blobs.metadata["left_out"] == {"images by address": 1}
    assert fold(asked).metadata["left_out"] == {"images": 1, "images by address": 1}


def test_an_episode_that_goes_on_after_it_was_folded_keeps_its_id_and_steps() -> None:
    one, two = booking()
    before = fold(one, outcome=Outcome(success=False))
    after = trajectory_of([Recorded(seq=9, exchange=two)], namespace="acme", episode_id="ep-1", before=before)
    whole = fold(one, two)
    assert [step.index for step in after.steps] == [0, 1]
    assert (after.id, after.steps, after.duration_s) == (whole.id, whole.steps, whole.duration_s)
    assert after.outcome == before.outcome
    assert trajectory_of([], namespace="acme", episode_id="ep-1", before=before) == before
    with pytest.raises(ValueError, match="has no exchanges"):
        fold()


# --- it is an ordinary trajectory -------------------------------------------------------------------------------------


def _stored(trajectory: Any, folder: Path | None = None) -> None:
    target = io.BytesIO()
    assert export([trajectory], target, "jsonl") == 1


def _store(path: Path) -> Path:
    with Store.open(path / "a.db") as store:
        for number in range(4):
            numbered = [Recorded(seq=seq, exchange=one) for seq, one in enumerate(booking(), 1)]
            store.append(
                trajectory_of(
                    numbered, namespace="default", episode_id=f"ep-{number}", outcome=Outcome(success=number > 0)
                )
            )
    return path / "a.db"


def run(command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0


def test_it_is_exported_for_fine_tuning_with_its_tool_calls(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    command = ["trajectories", "export", "--db", str(_store(tmp_path)), "--format", "openai-chat", "-o", str(target)]
    run(command)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(lines) == 3
    roles = [(message["role"], message.get("content")) for message in lines[0]["messages"]]
    assert roles == [
        ("system", "Book flights."),
        ("user", "To Oslo please"),
        ("assistant", None),
        ("tool", "SK123"),
        ("assistant", "Booked SK123."),
    ]
    assert lines[0]["tools"][0]["function"]["name"] == "search"


@pytest.mark.parametrize("command", ["measure", "audit"])
def test_it_is_measured_and_audited(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = _store(tmp_path)
    where = [str(db)] if command == "audit" else ["--db", str(db)]
    run([command, *where, "--json"])
    told = json.loads(capsys.readouterr().out)
    if command == "measure":
        (arm,) = told["arms"]
        assert (arm["n"], arm["success"]) == (4, 0.75)
        # Eight calls of 40 uncached, 60 cached and 10 output tokens at 0.40, 0.10 and 1.60 dollars a million.
        assert arm["cost_usd"] == pytest.approx(8 * (40 * 0.4 + 60 * 0.1 + 10 * 1.6) / 1e6)
