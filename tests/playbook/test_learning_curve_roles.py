"""The scripted roles of the learning curve: they read what a model would read, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from _scripted_notes import Note, Range, exactly, general, read_note
from _scripted_roles import InductiveCurator, InductiveReflector, turns_of
from _scripted_student import decide, student
from _scripted_world import true_notes
from potstill.distill.playbook.neutral import content
from potstill.distill.playbook.operations import Add, Bullet, Merge, Remove, Stage, Tag, Update
from potstill.distill.playbook.roles.contract import Case, Lesson, Signal
from potstill.distill.playbook.roles.evidence import case_of
from potstill.distill.playbook.said import Reflection
from potstill.types import (
    Action,
    Answerer,
    Message,
    Observation,
    Outcome,
    PlaybookUse,
    Request,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

# --- nothing of the environment reaches the roles -------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_the_roles_import_no_environment_however_far_one_looks(repository: Path) -> None:
    """Their own files and those that they import from ``bench``; and no text of the workshop stands in them."""
    bench = repository / "bench"
    files, found = ["_scripted_notes", "_scripted_roles", "_scripted_student"], set()
    for file in files:
        names = imported(bench / f"{file}.py")
        found |= names
        assert {name for name in names if name.startswith("_scripted")} <= set(files)
    assert not [name for name in found if name.startswith(("potstill.envs", "importlib", "sys"))]
    from potstill.envs.house_rules import words

    vocabulary = [
        *words.ACTS,
        *words.TROUBLES,
        *(f"{verb} {way}" for verb in words.STAGES for way in words.STAGES[verb]),
    ]
    for file in ("_scripted_roles", "_scripted_student"):
        text = (bench / f"{file}.py").read_text(encoding="utf-8")
        assert not [word for word in vocabulary if re.search(rf"\b{re.escape(word)}\b", text)]


# --- notes ----------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["oak", "glass", "a school", "Norway", "Monday"])
RANGES = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda two: Range(low=min(two), high=max(two)))
PARTS = st.lists(WORDS, min_size=1, max_size=2, unique=True).map(tuple) | RANGES
NAMES = st.sampled_from(["material", "promised for", "customer", "quantity"])
ACTIONS = st.lists(st.sampled_from(["cut by hand", "get the manager's note", "ship by sea"]), max_size=3, unique=True)
NOTES = st.builds(
    lambda when, verb, use, avoid, trouble: Note(
        when=when, verb=verb, use=tuple(use), avoid=tuple(avoid) or (() if use else ("ship by van",)), trouble=trouble
    ),
    st.dictionaries(NAMES, PARTS, max_size=4),
    st.sampled_from(["cut", "ship"]),
    ACTIONS,
    ACTIONS,
    st.sampled_from(["", "the gate stayed shut"]),
)


@given(NOTES)
def test_a_note_is_read_as_it_was_written_also_out_of_a_book(note: Note) -> None:
    assert read_note(str(note)) == note
    assert content(str(note)) == str(note)


ORDERS = st.fixed_dictionaries(
    {"material": WORDS, "customer": WORDS, "promised for": WORDS, "quantity": st.integers(0, 99).map(str)}
)


@given(ORDERS, ORDERS, st.lists(ORDERS, max_size=5))
def test_what_is_general_fits_everything_that_it_was_made_from(
    first: dict[str, str], second: dict[str, str], more: list[dict[str, str]]
) -> None:
    note = Note(when=exactly(first), verb="cut", use=("cut by hand",))
    for order in (second, *more):
        note = general(note, Note(when=exactly(order), verb="cut", use=("cut by hand",)))
    assert all(note.fits(order) for order in (first, second, *more))


def test_a_worked_example_of_generalising() -> None:
    """The third value drops a field, numbers span, and what helped is what helped every time."""
    orders = [("oak", "31"), ("wool", "58"), ("oak", "40")]
    made = [
        Note(when=exactly({"material": material, "quantity": quantity}), verb="ship", use=use)
        for (material, quantity), use in zip(orders, [("a", "b"), ("b", "c"), ("b",)], strict=True)
    ]
    note = general(general(made[0], made[1]), made[2])
    assert str(note) == "When material is oak or wool and quantity is 31 to 58: for `ship` use `b`."
    note = general(note, Note(when=exactly({"material": "glass", "quantity": "9"}), verb="ship", use=("b",)))
    assert str(note) == "When quantity is 9 to 58: for `ship` use `b`."


# --- the Reflector --------------------------------------------------------------------------------------------------


def episode(
    *turns: tuple[str, str], success: bool | None = False, shown: tuple[str, ...] = (), **fields: object
) -> Case:
    """A case of (action, what was seen after it), through the real evidence."""
    steps, seen = [], "It begins."
    for index, (did, saw) in enumerate(turns):
        step = Step(index=index, observation=Observation(text=seen), action=Action(text=did), answerer=Answerer.STUDENT)
        steps.append(msgspec.structs.replace(step, reasoning=f"By {', '.join(shown)}." if shown else ""))
        seen = saw
    trajectory = Trajectory(
        id="t-1",
        task=Task(id="1", environment="e", goal="Do it.\nmaterial: oak\nquantity: 12"),
        kind=TrajectoryKind.STUDENT,
        steps=tuple(steps),
        final_observation=Observation(text=seen, done=bool(fields.get("done", True))),
        outcome=None if success is None else Outcome(success=success),
        playbook=PlaybookUse(name="b", shown=shown) if shown else None,
    )
    return case_of(trajectory)


async def insight(case: Case, reflector: InductiveReflector | None = None) -> list[str]:
    found = await (reflector or InductiveReflector()).reflect(case, {})
    assert found.reflection is not None
    return found.reflection.key_insight.splitlines()


async def test_it_finds_what_was_different_when_it_went_well() -> None:
    case = episode(
        ("ship by van", "Trouble: the gate stayed shut. Again."),
        ("get the note", "You get it."),
        ("ship by van", "You ship by van."),
        success=False,
    )
    assert turns_of(case.account)[0].trouble == "the gate stayed shut"
    assert await insight(case) == [
        "When material is oak and quantity is 12: for `ship` use `get the note`, not `ship by van` "
        "(against `the gate stayed shut`)."
    ]


async def test_two_changes_at_once_leave_two_suspects_and_two_failed_ways_clear_both() -> None:
    case = episode(
        ("cut by hand", "Trouble: dust got in. Again."),
        ("cut with wire", "Trouble: dust got in. Again."),
        ("weigh it", "You weigh it."),
        ("cut with laser", "You cut."),
    )
    assert await insight(case) == [
        "When material is oak and quantity is 12: for `cut` use `weigh it` or `cut with laser` (against `dust got in`)."
    ]


async def test_what_went_on_unmended_blames_what_was_done_besides() -> None:
    turns = (("weigh it", "You weigh it."), ("ship by van", "Trouble: a seam opened. It goes on."))
    assert await insight(episode(*turns, ("pack in foam", "Done."))) == [
        "When material is oak and quantity is 12: for `ship` not `weigh it` (against `a seam opened`)."
    ]
    assert await insight(episode(*turns, done=False)) == []  # it broke off: perhaps it would have been mended


async def test_it_learns_nothing_from_silence_unless_it_is_to_copy_successes() -> None:
    quiet = episode(("cut by hand", "You cut."), success=True)
    assert await insight(quiet) == []
    copied = await insight(quiet, InductiveReflector(successes=True))
    assert copied == ["When material is oak and quantity is 12: for `cut` use `cut by hand`."]
    unknown = episode(("cut by hand", "You cut."), success=None)
    assert unknown.signal is Signal.NONE
    assert await insight(unknown, InductiveReflector(successes=True)) == []


def bullet(number: int, text: str, **fields: int) -> Bullet:
    return Bullet(id=f"b-{number}", number=number, section="s", content=text, stage=Stage.LIVE, **fields)


AGAINST = "When material is oak: for `ship` use `get the note` (against `the gate stayed shut`)."


async def test_votes_are_about_the_trouble_that_a_bullet_is_against() -> None:
    held = {"b-1": bullet(1, AGAINST)}
    kept_away = episode(("ship by van", "You ship."), shown=("b-1",))
    came = episode(("ship by van", "Trouble: the gate stayed shut. Again."), shown=("b-1",))
    other = episode(("ship by van", "Trouble: dust got in. Again."), shown=("b-1",))
    reflector = InductiveReflector()
    assert (await reflector.reflect(kept_away, held)).tags == (Tag(id="b-1", helpful=1),)
    assert (await reflector.reflect(came, held)).tags == (Tag(id="b-1", harmful=1),)
    assert (await reflector.reflect(other, held)).tags == ()
    assert (await reflector.reflect(other, {})).tags == ()


async def test_its_mistakes_are_the_same_every_time() -> None:
    case = episode(
        ("ship by van", "Trouble: the gate stayed shut. Again."), ("get the note", "Ok."), ("ship by van", "You ship.")
    )
    wrong = await insight(case, InductiveReflector(mistaken=1.0))
    assert wrong == await insight(case, InductiveReflector(mistaken=1.0))
    assert "use `ship by van`" in wrong[0]
    assert (await InductiveReflector(mistaken=1.0).reflect(case, {})).calls[0].usage is not None


# --- the Curator ----------------------------------------------------------------------------------------------------


def lesson(*lines: str) -> Lesson:
    return Lesson(
        sources=("t-1",), goal="", reflection=Reflection(key_insight="\n".join(lines)), signal=Signal.EXECUTION
    )


async def test_one_trouble_is_one_bullet_that_grows_more_general() -> None:
    first = "When material is oak and quantity is 12: for `ship` use `get the note`, not `ship by van` (against `x`)."
    second = "When material is wool and quantity is 40: for `ship` use `get the note` (against `x`)."
    curator = InductiveCurator()
    (add,) = (await curator.curate([lesson(first)], {})).operations
    assert add == Add(section="strategies_and_hard_rules", content=first)
    (update,) = (await curator.curate([lesson(second)], {"b-1": bullet(1, first, revision=3)})).operations
    wider = "When material is oak or wool and quantity is 12 to 40: for `ship` use `get the note` (against `x`)."
    assert update == Update(id="b-1", content=wider, revision=3)
    assert (await curator.curate([lesson(first)], {"b-1": bullet(1, wider)})).operations == ()
    (both,) = (await curator.curate([lesson(first), lesson(second)], {})).operations
    assert both == Add(section="strategies_and_hard_rules", content=wider)


async def test_what_has_no_remedy_left_and_what_does_harm_goes() -> None:
    curator = InductiveCurator()
    held = {"b-1": bullet(1, AGAINST)}
    other = AGAINST.replace("get the note", "weigh it")
    gone, new = (await curator.curate([lesson(other)], held)).operations
    assert isinstance(gone, Remove)
    assert new == Add(section="strategies_and_hard_rules", content=other)
    proven = {"b-1": bullet(1, AGAINST, helpful=2, harmful=1)}
    assert (await curator.curate([lesson(other)], proven)).operations == ()
    bad = {"b-1": bullet(1, AGAINST, helpful=1, harmful=3), "b-2": bullet(2, "Be kind.", harmful=9)}
    assert [one.id for one in (await curator.curate([], bad)).operations if isinstance(one, Remove)] == ["b-1"]


async def test_what_several_curators_made_of_one_trouble_is_merged() -> None:
    wool = AGAINST.replace("oak", "wool")
    held = {"b-1": bullet(1, AGAINST), "b-4": bullet(4, wool, revision=2), "b-5": bullet(5, "Be kind.")}
    (merge,) = (await InductiveCurator().curate([lesson(wool)], held)).operations
    both = "When material is oak or wool: for `ship` use `get the note` (against `the gate stayed shut`)."
    assert merge == Merge(into="b-1", ids=("b-4",), content=both, revisions=(1, 2))
    held["b-4"] = bullet(4, wool.replace("get the note", "weigh it"))
    assert (await InductiveCurator().curate([], held)).operations == ()


async def test_what_it_cannot_read_it_leaves_alone() -> None:
    said = await InductiveCurator().curate([lesson("Check everything twice.", "")], {"b-1": bullet(1, "## Be kind.")})
    assert said.operations == ()


# --- the student ----------------------------------------------------------------------------------------------------

WAYS = ("cut by hand", "cut with wire", "cut with laser", "weigh it", "get the note")


def asked(page: str, *history: str, seed: int = 1, goal: str = "material: oak\nquantity: 12") -> Request:
    messages = [
        Message(role="system", content=f"You work here.\n\n{page}"),
        Message(role="user", content=f"Goal: go.\n{goal}"),
    ]
    for text in history:
        messages.append(Message(role="assistant" if text in WAYS else "user", content=text))
    return Request(messages=tuple(messages), admissible=tuple(one for one in WAYS if one not in history[:1]), seed=seed)


def choices(page: str, *history: str, goal: str = "material: oak\nquantity: 12") -> list[str]:
    return [decide(asked(page, *history, seed=seed, goal=goal), seed % 7).text for seed in range(200)]


def test_it_follows_what_stands_in_its_prompt_and_nothing_that_does_not() -> None:
    page = "[b-1] When material is oak: for `cut` use `cut with wire` (against `dust got in`)."
    assert choices(page).count("cut with wire") > 180
    assert choices("").count("cut with wire") < 120
    assert choices(page, goal="material: glass\nquantity: 12").count("cut with wire") < 120
    avoided = choices("[b-1] When material is oak: for `cut` not `cut with wire`.")
    assert avoided.count("cut with wire") < 10


def test_it_names_the_bullets_that_it_followed() -> None:
    page = (
        "[b-7] When material is oak: for `cut` use `get the note`.\n"
        "[b-8] When material is glass: for `cut` use `weigh it`."
    )
    replies = [decide(asked(page, seed=seed), 0) for seed in range(50)]
    assert {reply.reasoning for reply in replies if reply.text == "get the note"} == {"By b-7."}


def test_a_remedy_that_did_not_help_gives_way_to_the_next() -> None:
    page = "[b-1] When material is oak: for `cut` use `weigh it` or `get the note` (against `dust got in`)."
    assert choices(page).count("weigh it") > 180
    after = choices(page, "weigh it", "You weigh it.", "cut by hand", "Trouble: dust got in. Again.")
    assert after.count("get the note") > 180


async def test_it_is_a_model_that_answers_with_what_is_admissible() -> None:
    model = student(3)
    done = await model.sample(asked("\n".join(true_notes(1, 10))), 2)
    assert {reply.text for reply in done.replies} <= set(WAYS)
    assert done.calls[0].usage is not None
