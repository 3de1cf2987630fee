"""Rounds of reflection: when they end, which votes count, and that every call is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playbook_cases import bullets, case, reflected

from potstill.distill.playbook.operations import Bullet, Tag
from potstill.distill.playbook.roles.contract import Case, Reflecting
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.distill.playbook.roles.rounds import Refined, Stopped, reflect_in_rounds
from potstill.distill.playbook.said import BulletTag, Reflection
from potstill.errors import ConfigError, EnvCrashed, ModelTimeout
from potstill.models.scripted import Scripted, ScriptedModel
from potstill.types import Answerer, Call, ErrorRecord

BOOK = bullets(3)


async def refine(
    answers: Sequence[Scripted], rounds: int = 3, retry: Retries | None = None, of: Case | None = None
) -> Refined:
    reflector = ModelReflector(ScriptedModel(answers), repairs=0)
    return await reflect_in_rounds(reflector, of or case(), BOOK, rounds, retry)


class Retries:
    """Attempts that end as they are told to, with what they were given."""

    def __init__(self, *outcomes: bool | Exception | None) -> None:
        self._outcomes = iter(outcomes)
        self.given: list[tuple[str, str]] = []

    async def __call__(self, case: Case, reflection: Reflection) -> Case:
        self.given.append((case.id, reflection.key_insight))
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return _case(f"t-{len(self.given) + 1}", outcome)


def _case(id: str, success: bool | None) -> Case:
    return case(id=id, success=success, shown=("b-1", "b-3"), cited=())


# --- bettering one's own reflection ---------------------------------------------------------------------------------


async def test_each_round_sees_the_one_before() -> None:
    model = ScriptedModel([reflected("One."), reflected("Two."), reflected("Three.")])
    made = await reflect_in_rounds(ModelReflector(model), case(), BOOK)
    assert (made.rounds, made.stopped, len(made.calls)) == (3, Stopped.ROUNDS, 3)
    assert made.reflection is not None
    assert made.reflection.key_insight == "Three."
    asked = [request.messages[1].content for request, _ in model.requests]
    assert ["round before" in text for text in asked] == [False, True, True]
    assert "    | Two." in asked[2]


async def test_it_stops_where_nothing_changes_any_more() -> None:
    made = await refine([reflected("One."), reflected("  ONE. "), reflected("Never asked.")], rounds=5)
    assert (made.rounds, made.stopped) == (2, Stopped.UNCHANGED)


async def test_another_tag_is_a_change() -> None:
    answers = [reflected("One.", b_1="helpful"), reflected("One.", b_1="harmful"), reflected("One.", b_1="harmful")]
    made = await refine(answers, rounds=5)
    assert (made.rounds, made.tags) == (3, (Tag(id="b-1", harmful=1),))


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 10])
async def test_a_bullet_gets_one_vote_an_episode(rounds: int) -> None:
    answers = [reflected(f"Insight {n}.", b_1="harmful", b_2="helpful") for n in range(rounds)]
    made = await refine(answers, rounds=rounds)
    assert made.rounds == rounds
    assert made.tags == (Tag(id="b-1", harmful=1), Tag(id="b-2", helpful=1))


async def test_a_reflector_that_votes_twice_in_one_answer_has_one_vote() -> None:
    class Eager:
        name = "eager"

        async def reflect(
            self, case: Case, bullets: Mapping[str, Bullet], previous: Reflection | None = None
        ) -> Reflecting:
            return Reflecting(
                reflection=Reflection(key_insight="x"), tags=(Tag(id="b-1", helpful=1), Tag(id="b-1", helpful=1))
            )

    assert (await reflect_in_rounds(Eager(), case(), BOOK)).tags == (Tag(id="b-1", helpful=1),)


async def test_a_round_that_says_nothing_usable_keeps_what_there_is() -> None:
    made = await refine([reflected("One.", b_1="helpful"), "prose", reflected("Never asked.")])
    assert (made.rounds, made.stopped, len(made.calls)) == (2, Stopped.REFUSED, 2)
    assert made.reflection is not None
    assert made.tags == (Tag(id="b-1", helpful=1),)
    assert made.refused


async def test_nothing_usable_at_all() -> None:
    made = await refine(["prose"])
    assert (made.reflection, made.tags, made.stopped, len(made.calls)) == (None, (), Stopped.REFUSED, 1)
    assert made.case == case()


async def test_nobody_answers_the_first_round() -> None:
    problem = ModelTimeout("no answer")
    problem.calls = (Call(model="lost", answerer=Answerer.NOBODY),)
    with pytest.raises(ModelTimeout) as caught:
        await refine([problem])
    assert len(caught.value.calls) == 1


async def test_nobody_answers_a_later_round_and_what_there_is_stays() -> None:
    problem = ModelTimeout("no answer")
    problem.calls = (Call(model="lost", answerer=Answerer.NOBODY),)
    made = await refine([reflected("One."), problem])
    assert made.reflection is not None
    assert (made.rounds, made.stopped) == (1, Stopped.FAILED)
    assert made.problem == ErrorRecord(kind="ModelTimeout", message="no answer")
    assert [call.model for call in made.calls] == ["scripted", "lost"]


async def test_no_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="rounds is 0"):
        await refine([], rounds=0)


# --- with another attempt -------------------------------------------------------------------------------------------


async def test_it_plays_again_until_the_task_is_done() -> None:
    retry = Retries(False, True)
    made = await refine([reflected("One."), reflected("Two."), reflected("Never asked.")], 5, retry)
    assert retry.given == [("t-1", "One."), ("t-2", "Two.")]
    assert (made.rounds, made.stopped, made.case.id, made.case.success) == (2, Stopped.SOLVED, "t-3", True)
    assert made.reflection is not None
    assert made.reflection.key_insight == "Two."


async def test_votes_come_from_the_attempt_that_was_recorded() -> None:
    """A retry was told the reflection: what its bullets did is not theirs alone."""
    answers = [reflected("One.", b_1="harmful"), reflected("Two.", b_1="helpful", b_3="helpful")]
    made = await refine(answers, 2, Retries(False))
    assert made.tags == (Tag(id="b-1", harmful=1),)
    assert made.reflection is not None
    assert made.reflection.bullet_tags == (BulletTag(id="b-1", tag="helpful"), BulletTag(id="b-3", tag="helpful"))


async def test_after_the_last_reflection_nothing_is_played() -> None:
    retry = Retries(False, False)
    made = await refine([reflected(f"{n}.") for n in range(3)], 3, retry)
    assert (len(retry.given), made.rounds, made.stopped) == (2, 3, Stopped.ROUNDS)


async def test_a_success_is_reflected_on_once_and_not_played_again() -> None:
    retry = Retries()
    made = await refine([reflected("One.", b_2="helpful")], 5, retry, of=case(success=True))
    assert (made.rounds, made.stopped, retry.given) == (1, Stopped.SOLVED, [])
    assert made.tags == (Tag(id="b-2", helpful=1),)


async def test_the_same_reflection_on_another_attempt_is_no_reason_to_stop() -> None:
    made = await refine([reflected("One.")] * 3, 3, Retries(False, False))
    assert (made.rounds, made.stopped) == (3, Stopped.ROUNDS)


async def test_nobody_knowing_how_a_retry_ended_is_no_success() -> None:
    made = await refine([reflected("One."), reflected("Two.")], 2, Retries(None))
    assert (made.stopped, made.case.success) == (Stopped.ROUNDS, None)


async def test_a_retry_that_breaks_keeps_what_there_is() -> None:
    made = await refine([reflected("One.")], 3, Retries(EnvCrashed("the game died")))
    assert (made.stopped, made.rounds, len(made.calls)) == (Stopped.FAILED, 1, 1)
    assert made.problem == ErrorRecord(kind="EnvCrashed", message="the game died")
    assert made.reflection is not None


@given(
    st.lists(st.sampled_from([None, "prose", "same", "other", "timeout"]), min_size=1, max_size=6),
    st.lists(st.sampled_from([True, False, None]), min_size=6, max_size=6) | st.none(),
    st.integers(1, 6),
)
async def test_every_call_is_kept_and_every_bullet_has_one_vote_at_most(
    script: list[str | None], outcomes: list[bool | None] | None, rounds: int
) -> None:
    lost = ModelTimeout("no answer")
    lost.calls = (Call(model="lost", answerer=Answerer.NOBODY),)
    made: dict[str | None, Scripted] = {
        "prose": "prose",
        "same": reflected("Same.", b_1="helpful"),
        "other": reflected("Other.", b_1="harmful", b_2="neutral"),
        "timeout": lost,
        None: "",
    }
    model = ScriptedModel([*(made[each] for each in script), *[reflected("Same.")] * 6])
    retry = Retries(*outcomes) if outcomes is not None else None
    reflecting = reflect_in_rounds(ModelReflector(model, repairs=1), case(), BOOK, rounds, retry)
    (result,) = await asyncio.gather(reflecting, return_exceptions=True)
    assert isinstance(result, Refined | ModelTimeout)
    assert len(result.calls) == len(model.requests)
    if isinstance(result, ModelTimeout):
        return
    assert result.rounds <= rounds
    assert len({tag.id for tag in result.tags}) == len(result.tags)
    assert all(tag.helpful + tag.harmful + tag.neutral == 1 for tag in result.tags)
