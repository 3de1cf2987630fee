"""``potstill playbook forget`` as it is typed: proof only where no book of the tenant holds what was erased."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.playbook import playbook
from potstill.cli.trajectories import trajectories
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Merge, Quarantine, Remove, Stage, Update
from potstill.errors import ConfigError, PotstillError
from potstill.trajectories import Store
from potstill.types import (
    Action,
    Answerer,
    Call,
    Message,
    Observation,
    PlaybookUse,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

SECRET = "Ask for the customer's order number before anything else is said."


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


def run(db: str, *words: str) -> Result:
    return CliRunner().invoke(playbook, [*words, "--db", db])


def add(store: Store, book: str, text: str, *sources: str) -> str:
    operation = Add(section="rules", content=text, stage=Stage.LIVE)
    return Playbook(store, "default", book).apply(Batch(operations=(operation,), actor="ana", sources=sources)).ids[0]


def test_a_copy_in_another_book_is_named_and_there_is_no_proof(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        add(store, "copy", SECRET)
    dry = json.loads(run(db, "forget", "--source", "ep-a", "--dry-run", "--json").stdout)
    assert [(row["book"], [one["place"] for one in row["traces"]]) for row in dry["books"]] == [
        ("copy", ["b-1 of copy"]),
        ("first", []),
    ]
    done = run(db, "forget", "--source", "ep-a")
    assert type(done.exception) is PotstillError
    assert "left of what was forgotten, in 'copy'" in str(done.exception)
    assert "copy: trace (text) in playbook_bullets.body of b-1" in done.stderr
    assert "Proof" not in done.output
    again = run(db, "forget", "--source", "ep-a")
    assert again.exit_code == 0
    assert "was forgotten before" in again.stderr
    assert "Proof" not in again.output, "nobody knows any more what to look for"


def test_books_outside_of_book_are_looked_through(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        add(store, "second", SECRET, "ep-a")
    done = run(db, "forget", "--source", "ep-a", "--book", "first")
    assert "stands outside of --book first" in str(done.exception)
    with Store.open(db) as store:
        assert Playbook(store, "default", "first").bullets() == {}
        assert len(Playbook(store, "default", "second").bullets()) == 1
    done = run(db, "forget", "--source", "ep-a")
    assert done.exit_code == 0
    assert "Proof: every row of 2 books and of the namespace's episodes was scanned" in done.stderr


def test_a_merge_in_other_words_is_listed_for_review(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        add(store, "first", "Greet the customer.", "ep-b")
        merge = Merge(into="b-2", ids=("b-1",), content="Greet, then get the purchase reference.", revisions=(1, 1))
        book = Playbook(store, "default", "first")
        book.apply(Batch(operations=(merge,), actor="curator", sources=("ep-b",)))
    for dry in (["--dry-run", "--json"], ["--json"]):
        (row,) = json.loads(run(db, "forget", "--source", "ep-a", *dry).stdout)["books"]
        assert row["review"] == ["b-2"]
        assert row["gone"] == ["b-1"]


def test_a_mistyped_source_changes_nothing(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "episode-a")
    for dry in ((), ("--dry-run",)):
        done = run(db, "forget", "--source", "episod-a", *dry)
        assert type(done.exception) is PotstillError
        assert str(done.exception) == (
            "Nothing was changed: no batch of any book names the source 'episod-a'. Did you mean 'episode-a'?"
        )
        assert done.output == ""
    assert isinstance(run(db, "forget", "--source", " ").exception, ConfigError)
    with Store.open(db) as store:
        book = Playbook(store, "default", "first")
        assert (len(book.bullets()), book.revision) == (1, 1)


@pytest.mark.parametrize("word", ["customers", "admin", "ana", "QUARANTINE"])
def test_a_word_that_is_no_source_erases_no_reason(db: str, word: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        book = Playbook(store, "default", "first")
        why = "the customers complained"
        book.apply(Batch(operations=(Quarantine(id="b-1", reason=why),), actor="admin", reason=why))
        before = book.log()
    assert "no batch of any book names the source" in str(run(db, "forget", "--source", word).exception)
    with Store.open(db) as store:
        assert Playbook(store, "default", "first").log() == before


def test_names_of_actors_books_and_operations_are_no_traces(db: str) -> None:
    with Store.open(db) as store:
        book = Playbook(store, "default", "ana")
        for text, source in ((SECRET, "ana"), ("Measure twice before you cut.", "live")):
            operation = Add(section="rules", content=text, stage=Stage.LIVE)
            book.apply(Batch(operations=(operation,), actor="ana", sources=(source,)))
    for source in ("ana", "live"):
        done = run(db, "forget", "--source", source)
        assert (done.exit_code, "trace (source)" in done.output) == (0, False)


def test_an_id_that_others_mention_is_still_a_trace(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        add(store, "first", "As ep-a showed, greet first.", "ep-b")
    done = run(db, "forget", "--source", "ep-a")
    assert done.exit_code == 1
    assert "first: trace (source) in playbook_bullets.body of b-2: ep a" in done.stderr


def episode(store: Store, id: str, *, shown: str = "", said: str = "done") -> None:
    """One step, by a student that was given the book 'first'."""
    call = Call(model="m", answerer=Answerer.STUDENT, prompt=(Message(role="system", content=f"Be kind.\n\n{shown}"),))
    step = Step(
        index=0,
        observation=Observation(text="hello"),
        action=Action(text=said),
        answerer=Answerer.STUDENT,
        calls=(call,),
    )
    task, use = Task(id=id, environment="e"), PlaybookUse(name="first", revision=1, shown=("b-1",))
    store.append(Trajectory(id=id, task=task, kind=TrajectoryKind.STUDENT, steps=(step,), playbook=use))


def test_pages_in_recorded_prompts_lose_it(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        for id in ("ep-a", "one", "two"):
            episode(store, id, shown=f"## RULES\n[b-1] {SECRET}\n[b-2] Be brief.")
    dry = run(db, "forget", "--source", "ep-a", "--dry-run")
    assert "lines of the prompts of 3 episodes. Nothing was done." in dry.stderr
    done = run(db, "forget", "--source", "ep-a")
    assert done.exit_code == 0
    assert "erased from the recorded prompts of 3 episodes." in done.stderr
    assert f"potstill trajectories rm ep-a --db {db}" in done.stderr
    with Store.open(db) as store:
        prompt = store.get("two").steps[0].calls[0].prompt[0].content
    assert prompt == "Be kind.\n\n## RULES\n[b-1] (forgotten)\n[b-2] Be brief."
    assert SECRET.encode() not in Path(db).read_bytes()


def test_episodes_that_say_it_in_their_own_words_are_named_with_what_removes_them(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        episode(store, "ep-a", said=SECRET)
        episode(store, "it's one", said=f"As I know: {SECRET}")
        episode(store, "asked", shown=f"A customer wrote: {SECRET}")
    done = run(db, "forget", "--source", "ep-a")
    assert (done.exit_code, "Proof" in done.output) == (1, False)
    assert "asked: trace (text): ask for the customer s order number" in done.stderr
    removes = str(done.exception).partition("type: potstill trajectories ")[2]
    assert shlex.split(removes)[:3] == ["rm", "asked", "it's one"]
    assert CliRunner().invoke(trajectories, shlex.split(removes)).exit_code == 0
    with Store.open(db) as store:
        assert store.ids() == ["ep-a"]


def test_what_is_left_in_the_source_itself_is_said_and_no_failure(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        episode(store, "ep-a", said=SECRET)
    done = run(db, "forget", "--source", "ep-a")
    assert done.exit_code == 0
    assert "no trace is left outside of the episode 'ep-a'" in done.stderr


def advised(error: BaseException | None) -> list[str]:
    """What a message says to type, without the store."""
    return [part.partition(". ")[0] for part in str(error).split("potstill playbook ")[1:]]


def test_copies_without_a_source_go_with_the_command_that_is_printed(db: str, tmp_path: Path) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        add(store, "first", f"Remember: {SECRET}", "ep-b")
        book = Playbook(store, "default", "first")
        book.apply(Batch(operations=(Remove(id="b-2", reason=SECRET),), actor="admin", reason="see it"))
        add(store, "copy", SECRET)
        book = Playbook(store, "default", "copy")
        book.apply(Batch(operations=(Update(id="b-1", content=f"{SECRET} Now.", revision=1),), actor="ana"))
        book.apply(Batch(operations=(Remove(id="b-1", reason="no more"),), actor="ana"))
    done = run(db, "forget", "--source", "ep-a")
    assert done.exit_code == 1
    typed = advised(done.exception)
    assert len(typed) == 2
    codes = [CliRunner().invoke(playbook, shlex.split(line)).exit_code for line in typed]
    assert codes[-1] == 0
    assert b"order number" not in Path(db).read_bytes()
    with Store.open(db) as store:
        assert [Playbook(store, "default", name).check() for name in ("first", "copy")] == [[], []]


def test_a_bullet_that_nobody_taught_is_forgotten_by_its_id(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET)
        add(store, "first", "Be brief.")
        episode(store, "one", shown=f"[b-1] {SECRET}")
    assert "1 batch would be erased" in run(db, "forget", "--bullet", "b-1", "--dry-run").stderr
    done = run(db, "forget", "--bullet", "b-1", "--json")
    assert done.exit_code == 0
    (row,) = json.loads(done.stdout)["books"]
    assert (row["gone"], row["prompts"], row["traces"]) == (["b-1"], ["one"], [])
    assert SECRET.encode() not in Path(db).read_bytes()
    again = run(db, "forget", "--bullet", "b-1")
    assert (again.exit_code, "Proof" in again.output) == (0, False)
    assert "never had a bullet 'b-9'" in str(run(db, "forget", "--bullet", "b-9").exception)


def test_forget_is_told_one_thing_to_forget(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET)
        add(store, "second", SECRET)
    assert "--source ID, or --bullet ID" in str(run(db, "forget").exception)
    assert "--source ID, or --bullet ID" in str(run(db, "forget", "--bullet", "b-1", "--source", "x").exception)
    assert "--book first" in str(run(db, "forget", "--bullet", "b-1").exception)


def test_an_import_can_be_given_its_source(db: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.md"
    file.write_text(f"## Rules\n\n- {SECRET}\n- Be brief.\n")
    assert run(db, "import", str(file), "--book", "first", "--source", "their-file", "--stage", "live").exit_code == 0
    with Store.open(db) as store:
        assert [one.sources for one in Playbook(store, "default", "first").bullets().values()] == [("their-file",)] * 2
    assert run(db, "forget", "--source", "their-file").exit_code == 0
    assert b"order number" not in Path(db).read_bytes()


PHONE = "Customer Jane Roe, phone 555-0134, wants no calls."


def test_a_name_and_a_number_in_a_few_characters_are_no_proof(db: str) -> None:
    assert run(db, "add", PHONE, "--source", "ep-1").exit_code == 0
    assert run(db, "add", "Be polite.", "--reason", "Jane Roe, phone 555-0134, complained").exit_code == 0
    assert run(db, "add", "Jane Roe (phone 555-0134) gets letters.").exit_code == 0
    assert run(db, "add", "Tell who phoned: 0134 is internal.", "--book", "copy").exit_code == 0
    done = run(db, "forget", "--source", "ep-1")
    assert (done.exit_code, "Proof" in done.output) == (1, False)
    assert "look at b-3: they stay, because others taught them" in done.stderr
    typed = advised(done.exception)
    assert [line.split()[:3] for line in typed] == [["forget", "--bullet", "b-1"], ["forget", "--bullet", "b-3"]]
    assert [CliRunner().invoke(playbook, shlex.split(line)).exit_code for line in typed][-1] == 0
    for word in (b"Jane", b"0134"):
        assert word not in Path(db).read_bytes()
    with Store.open(db) as store:
        assert [one.content for one in Playbook(store, "default", "playbook").bullets().values()] == ["Be polite."]


def test_an_earlier_text_of_another_bullet_is_looked_through(db: str) -> None:
    assert run(db, "add", PHONE, "--source", "ep-1").exit_code == 0
    assert run(db, "add", "Write to Jane Roe.").exit_code == 0
    assert run(db, "edit", "b-2", "--content", "Write letters.").exit_code == 0
    (row,) = json.loads(run(db, "forget", "--source", "ep-1", "--json").stdout)["books"]
    assert (row["alike"], row["traces"]) == (["b-2"], [])


def test_words_that_are_shared_by_chance_are_shown_beside_the_proof(db: str) -> None:
    with Store.open(db) as store:
        add(store, "first", SECRET, "ep-a")
        add(store, "first", "Read the order number before anything is typed.", "ep-b")
    done = run(db, "forget", "--source", "ep-a")
    assert done.exit_code == 0
    assert "look at b-2: they share four words in a row" in done.stderr
    assert "no number of 4 digits, no address and no name" in done.stderr
