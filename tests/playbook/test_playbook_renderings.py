"""Pages in recorded prompts lose what was forgotten: in episodes, in exchanges that are not folded yet, in the file."""

from __future__ import annotations

import json

import pytest

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Stage, Update
from potstill.distill.playbook.page import Setting, compact, open_page, text_of
from potstill.distill.playbook.renderings import INSTEAD, Pages, still_there
from potstill.record.folding import fold_episode
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import (
    Action,
    Answerer,
    Call,
    Message,
    Observation,
    Outcome,
    PlaybookUse,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

SECRET = 'Ask Jane Roe, phone 555-0134: she knows "the old\n  way"'
ANSWER = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"ok"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
OTHER = "Measure twice before you cut."


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
def book(store):
    return Playbook(store, "default", "house")


def teach(book: Playbook, text: str, *sources: str) -> str:
    add = Add(section="rules", content=text, stage=Stage.LIVE)
    return book.apply(Batch(operations=(add,), actor="ana", sources=sources)).ids[0]


def page(book: Playbook) -> str:
    bullets = book.bullets().values()
    return text_of(open_page(compact(bullets, revision=book.revision), bullets, Setting()))


def use(book: Playbook, name: str = "house") -> PlaybookUse:
    return PlaybookUse(name=name, revision=book.revision, shown=tuple(book.bullets()))


def episode(book: Playbook, id: str, *, name: str = "house", said: str = "done", **fields) -> Trajectory:
    """Of two steps, whose prompts share their beginning."""
    system = Message(role="system", content=f"You are a helper.\n\n{page(book)}\n\nMind the customer.")
    prompts = [(system, Message(role="user", content="one"))]
    prompts.append((*prompts[0], Message(role="assistant", content="ok"), Message(role="user", content="two")))
    steps = tuple(
        Step(
            observation=Observation(text=f"seen {n}"),
            action=Action(text=said),
            index=n,
            answerer=Answerer.STUDENT,
            calls=(Call(model="m", answerer=Answerer.STUDENT, prompt=prompt),),
        )
        for n, prompt in enumerate(prompts)
    )
    return Trajectory(
        id=id, task=Task(id=id, environment="e"), kind=TrajectoryKind.STUDENT, steps=steps,
        outcome=Outcome(success=True), playbook=use(book, name), **fields,
    )  # fmt: skip


def exchange(book: Playbook, id: str, words: str) -> Exchange:
    asked = [{"role": "user", "content": words}]
    system = {"role": "system", "content": f"Be brief.\n\n{page(book)}\n\nMind the customer."}
    call = Upstream(
        model="m", upstream="u", answerer=Answerer.STUDENT, dialect="openai-chat", status=200,
        request=json.dumps({"model": "m", "messages": [system, *asked], "n": 1}).encode(),
        response=ANSWER,
    )  # fmt: skip
    return Exchange(
        namespace="default", episode_id=id, route="r", dialect="openai-chat", started_at=1.0,
        request=json.dumps({"model": "r", "messages": asked}).encode(), response=ANSWER, answerer=Answerer.STUDENT,
        calls=(call,), playbook=use(book),
    )  # fmt: skip


def prompts(store: Store, id: str) -> str:
    return "\n".join(one.content for step in store.get(id).steps for call in step.calls for one in call.prompt)


def every_text(store: Store, namespace: str = "default") -> str:
    return "\n".join(text for _, text in store.recorded_texts(namespace))


def test_the_line_goes_and_the_episode_stays_what_and_where_it_is(store, book):
    teach(book, SECRET, "s-1")
    teach(book, OTHER, "s-2")
    for number in range(3):
        store.append(episode(book, f"e-{number}", started_at=1e9 + number))
    before = store.get("e-1")
    assert "555-0134" in every_text(store)
    forgotten, left = book.forget_source("s-1", actor="ana")
    assert (forgotten.prompts, left) == (("e-0", "e-1", "e-2"), ())
    assert "555" not in every_text(store)
    assert "old" not in every_text(store)
    assert f"[b-1] {INSTEAD}\n[b-2] {OTHER}\n\nMind the customer." in prompts(store, "e-1")
    after = store.get("e-1")
    assert [step.calls[0].prompt[1:] for step in after.steps] == [step.calls[0].prompt[1:] for step in before.steps]
    assert (after.outcome, after.playbook, after.steps[0].action) == (
        before.outcome, before.playbook, before.steps[0].action
    )  # fmt: skip
    assert store.ids() == ["e-0", "e-1", "e-2"]
    assert [row.trajectory_id for row in store.playbook_uses("default", "house")] == ["e-0", "e-1", "e-2"]
    assert still_there(store, "default", forgotten.texts) == ()
    store.append(after)
    assert store.remove(["e-0", "e-1", "e-2"]).removed == 3
    assert every_text(store) == ""


def test_no_byte_of_a_prompt_is_left_in_the_file(store, book, tmp_path):
    teach(book, SECRET, "s-1")
    store.append(episode(book, "e-0"))
    book.forget_source("s-1", actor="ana")
    assert [file.name for file in tmp_path.iterdir() if b"555-0134" in file.read_bytes()] == []


def test_another_tenants_episode_and_other_books_bullets_stay(store, book):
    teach(book, SECRET, "s-1")
    store.append(episode(book, "ours"))
    store.append(episode(book, "theirs", namespace="acme"))
    other = Playbook(store, "default", "other")
    teach(other, OTHER, "s-9")
    store.append(episode(other, "of-another-book", name="other"))
    assert book.forget_source("s-1", actor="ana")[0].prompts == ("ours",)
    assert "555-0134" not in prompts(store, "ours")
    assert "555-0134" in prompts(store, "theirs")
    assert f"[b-1] {OTHER}" in prompts(store, "of-another-book"), "the same id means another bullet there"


def test_an_earlier_text_of_a_bullet_that_stays_goes_too(store, book):
    teach(book, SECRET, "s-1")
    store.append(episode(book, "early"))
    book.apply(Batch(operations=(Update(id="b-1", content=OTHER, revision=1),), actor="ana", sources=("s-2",)))
    store.append(episode(book, "late"))
    assert book.forget_source("s-1", actor="ana")[0].prompts == ("early",)
    assert f"[b-1] {INSTEAD}" in prompts(store, "early")
    assert f"[b-1] {OTHER}" in prompts(store, "late")


def test_what_is_recorded_after_it_goes_when_it_is_typed_again(store, book):
    teach(book, SECRET, "s-1")
    under_way, live = episode(book, "e-0"), exchange(book, "g-0", "hello")
    book.forget_source("s-1", actor="ana")
    store.append(under_way)
    store.record([live])
    assert book.forget_source("s-1", actor="ana")[0].prompts == ("e-0", "g-0")
    assert "555" not in every_text(store)
    assert book.forget_source("s-1", actor="ana")[0].prompts == ()


def test_exchanges_that_are_not_folded_lose_it_and_so_does_their_trajectory(store, book):
    teach(book, SECRET, "s-1")
    teach(book, OTHER, "s-2")
    seqs = store.record([exchange(book, "g-0", words) for words in ("one", "two", "three")])
    store.record([exchange(book, "g-1", "four")])
    texts = book.forget_source("s-1", actor="ana")[0].texts
    found = store.exchanges("default", "g-0")
    assert [one.seq for one in found] == seqs
    for one, words in zip(found, ("one", "two", "three"), strict=True):
        body = json.loads(one.exchange.calls[0].request)
        assert body["messages"][0]["content"].endswith(f"[b-1] {INSTEAD}\n[b-2] {OTHER}\n\nMind the customer.")
        assert body["messages"][1]["content"] == words
    assert still_there(store, "default", texts) == ()
    later = store.record([exchange(book, "g-0", "later")])
    assert [one.seq for one in store.exchanges("default", "g-0")] == [*seqs, *later]
    folded = fold_episode(store, "default", "g-1")
    assert folded is not None
    assert f"[b-1] {INSTEAD}" in prompts(store, folded.id)
    assert "555" not in every_text(store)


def test_what_a_model_said_of_it_is_found_and_its_episode_named(store, book):
    teach(book, SECRET, "s-1")
    store.append(episode(book, "quotes", said=f"I was told: {SECRET}"))
    forgotten, _ = book.forget_source("s-1", actor="ana")
    assert [(one.episode, one.open) for one in still_there(store, "default", forgotten.texts)] == [("quotes", False)]
    store.remove(["quotes"])
    assert still_there(store, "default", forgotten.texts) == ()


def test_a_request_keeps_every_byte_but_the_lines(book):
    teach(book, SECRET, "s-1")
    teach(book, OTHER, "s-2")
    spelt = json.dumps(page(book), ensure_ascii=False)
    for text in (spelt, json.dumps(page(book) + "ß"), json.dumps(page(book) + "ß", ensure_ascii=False)):
        body = f'{{ "a":1.50, "b" : [{text}, "[b-9] x"],\n"c":"\\u00e9[b-"}}'.encode()
        without = Pages("house", [SECRET], ()).body(body, given=False)
        assert without.startswith(b'{ "a":1.50, "b" : ["')
        assert without.endswith(b', "[b-9] x"],\n"c":"\\u00e9[b-"}')
        assert json.loads(without)["b"][0].startswith(f"{page(book).splitlines()[0]}\n[b-1] {INSTEAD}\n[b-2] {OTHER}")
    assert Pages("house", [], ["b-9"]).body(b'["[b-9] x"]', given=True) == f'["[b-9] {INSTEAD}"]'.encode()
    assert Pages("house", [], ["b-9"]).body(b'["[b-9] x"]', given=False) == b'["[b-9] x"]'
