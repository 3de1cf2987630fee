"""Recorded episodes as cases: what gets in, who says how it ended, what was named, and what fits."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from injection_corpus import PAYLOADS
from playbook_cases import ACCOUNT, episode, shipping, step
from test_playbook_injection import OWN_ID, TOKEN

from potstill.distill.playbook.lookalikes import skeleton
from potstill.distill.playbook.roles.contract import Case, Signal
from potstill.distill.playbook.roles.evidence import case_of, label_at
from potstill.distill.playbook.roles.quoting import MARK, limits, neutral_text, quoted
from potstill.errors import ConfigError
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import (
    Action,
    Answerer,
    Call,
    DemonstrationRef,
    ErrorRecord,
    Message,
    Observation,
    Outcome,
    OutcomeSource,
    PlaybookUse,
    Purpose,
    Reply,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
)

OURS = re.compile(
    r"Step \d+ \((teacher|student|control|nobody)(, nothing was done)?\)"
    r"|  (planned|saw|a tool answered|thought|did|failed|broken by):"
    r"|\(\d+ steps? left out here\)|\(\d+ steps; there is no room for them\)|    \([\d,]+ characters left out\)"
    r"|The episode (ended|broke off) here|The episode stopped here, before its environment said that it was over"
)
count = EstimatedTokens().count


def unmarked(account: str) -> list[str]:
    """Lines that are neither quoted nor of potstill's few."""
    return [line for line in account.split("\n") if not line.startswith(MARK) and not OURS.fullmatch(line)]


# --- a worked example -----------------------------------------------------------------------------------------------


def test_an_episode_as_a_case() -> None:
    assert case_of(shipping()) == Case(
        id="t-1",
        goal="Ship order 7.",
        account=ACCOUNT,
        signal=Signal.EXECUTION,
        success=False,
        feedback="Score 0.25. The shipment came back.",
        shown=("b-3", "b-5"),
        cited=("b-3",),
    )


def test_an_episode_that_broke_off_says_so_and_keeps_what_was_done() -> None:
    broken = episode(
        step(0, "A hall.", "go north"),
        step(1, "A cave.", error=ErrorRecord(kind="ModelTimeout", message="no answer in 60 s")),
        error=ErrorRecord(kind="ModelTimeout", message="no answer in 60 s"),
    )
    case = case_of(broken)
    assert (case.signal, case.success, case.feedback) == (Signal.NONE, None, "")
    assert case.account.split("\n")[-8:] == [
        "Step 2 (student, nothing was done)",
        "  saw:",
        "    | A cave.",
        "  failed:",
        "    | ModelTimeout: no answer in 60 s",
        "The episode broke off here",
        "  broken by:",
        "    | ModelTimeout: no answer in 60 s",
    ]


def test_an_episode_that_ran_out_of_steps_says_so() -> None:
    stopped = episode(step(0, "A hall.", "wait"), final_observation=Observation(text="A hall."))
    assert "The episode stopped here, before its environment said that it was over" in case_of(stopped).account


def test_an_episode_without_steps_is_a_case() -> None:
    assert case_of(episode()).account == "The episode ended here"


# --- only what may be learnt from -----------------------------------------------------------------------------------


def test_what_is_not_allow_listed_does_not_get_in() -> None:
    """Everything that no case may hold says SECRET."""
    call = Call(
        model="SECRET",
        answerer=Answerer.STUDENT,
        prompt=(Message(role="system", content="SECRET"),),
        replies=(Reply(text="SECRET", reasoning="SECRET"),),
        raw_usage={"SECRET": 1},
    )
    observation = Observation(
        text="A hall.", admissible=("SECRET",), tools=(ToolSpec(name="SECRET", description="SECRET"),), score=0.987
    )
    secret = episode(
        step(0, observation=observation, done="go", calls=(call,), demonstrations=(_demonstration(),)),
        task=Task(id="SECRET", environment="SECRET", goal="Go.", split="SECRET", data={"answer": "SECRET"}),
        metadata={"key": "SECRET"},
        arm="SECRET",
        run_id="SECRET",
        namespace="SECRET",
        teacher="SECRET",
        student="SECRET",
        config_digest="SECRET",
        final_observation=Observation(text="Done.", done=True, admissible=("SECRET",)),
        outcome=Outcome(success=True),
    )
    assert "SECRET" not in msgspec.json.encode(case_of(secret)).decode()
    assert b"SECRET" in msgspec.json.encode(secret)


def _demonstration() -> DemonstrationRef:
    return DemonstrationRef(trajectory_id="SECRET", start=0, stop=1)


# --- who says how it ended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [OutcomeSource.ENVIRONMENT, OutcomeSource.CHECKER, OutcomeSource.HUMAN])
@pytest.mark.parametrize("success", [True, False])
def test_who_knows_makes_a_signal(source: OutcomeSource, success: bool) -> None:
    case = case_of(episode(outcome=Outcome(success=success, source=source)))
    assert (case.signal, case.success) == (Signal.EXECUTION, success)


@pytest.mark.parametrize("success", [True, False, None])
def test_a_judge_is_nobody_and_its_opinion_is_told_as_one(success: bool | None) -> None:
    case = case_of(episode(outcome=Outcome(success=success, source=OutcomeSource.JUDGE, detail="Looks fine.")))
    assert (case.signal, case.success) == (Signal.NONE, None)
    word = {True: "done", False: "not done", None: "unclear"}[success]
    assert case.feedback == f"No more than the opinion of a model that judged: {word}. Looks fine."


def test_an_outcome_that_is_not_known_yet_is_no_signal() -> None:
    case = case_of(episode(outcome=Outcome(success=None, score=0.5, detail="Half of it.")))
    assert (case.signal, case.success, case.feedback) == (Signal.NONE, None, "Score 0.5. Half of it.")


@pytest.mark.parametrize(
    ("data", "metadata", "label"),
    [
        ({"label": "42"}, {}, "42"),
        ({}, {"label": "42"}, "42"),
        ({"label": " from the task "}, {"label": "from outside"}, "from the task"),
        ({"label": 42}, {}, "42"),
        ({"label": 0}, {}, "0"),
        ({"label": False}, {}, "false"),
        ({"label": ["a", "b"]}, {}, '\\["a","b"]'),  # neutral: no line begins as a bullet does
        ({"label": ""}, {"label": "second"}, "second"),
    ],
)
def test_a_label_makes_a_signal(data: dict[str, Any], metadata: dict[str, Any], label: str) -> None:
    judged = Outcome(success=True, source=OutcomeSource.JUDGE)
    made = case_of(_labelled(data, metadata, judged))
    assert (made.signal, made.label, made.success) == (Signal.LABEL, label, None)


def _labelled(data: dict[str, Any], metadata: dict[str, Any], outcome: Outcome | None = None) -> Trajectory:
    return episode(task=Task(id="q", environment="e", data=data), metadata=metadata, outcome=outcome)


@pytest.mark.parametrize("data", [{}, {"label": None}, {"label": "  "}, {"answer": "42"}])
def test_no_label_makes_none(data: dict[str, Any]) -> None:
    case = case_of(_labelled(data, {}))
    assert (case.signal, case.label) == (Signal.NONE, "")


def test_a_label_may_stand_elsewhere() -> None:
    labelled = _labelled({"answer": "42"}, {})
    assert case_of(labelled, label_of=label_at("target", "answer")).label == "42"
    assert case_of(labelled, label_of=lambda trajectory: trajectory.id).label == "t-1"
    assert case_of(labelled, label_of=lambda trajectory: None).signal is Signal.NONE


# --- what was named -------------------------------------------------------------------------------------------------


def _saying(purpose: Purpose, *replies: Reply) -> Call:
    return Call(model="m", answerer=Answerer.STUDENT, purpose=purpose, replies=replies)


def test_bullets_are_named_in_the_model_s_own_words_only() -> None:
    shown = PlaybookUse(name="p", shown=tuple(f"b-{number}" for number in range(1, 12)))
    said = episode(
        step(
            0,
            "The page says [b-1].",
            observation=Observation(text="[b-1]", tool_results=(ToolResult(call_id="c", text="[b-2]"),)),
            action=Action(text="by [b-3]", tool_calls=(ToolCall(id="d", name="note", arguments='{"why": "b-4"}'),)),
            reasoning="[b-5]",
            calls=(
                _saying(Purpose.ACT, Reply(text="[b-6]"), Reply(text="not taken: [b-7]", reasoning="b-8")),
                _saying(Purpose.CHECK, Reply(text="[b-9]")),
                _saying(Purpose.REFLECT, Reply(text="[b-10]")),
            ),
            error=ErrorRecord(kind="E", message="[b-11]"),
        ),
        plan="First b-99, which nobody showed.",
        playbook=shown,
    )
    assert case_of(said).cited == ("b-5", "b-3", "b-4", "b-6", "b-8", "b-7")


def test_what_a_teacher_wrote_is_not_the_student_s() -> None:
    shown = PlaybookUse(name="p", shown=("b-1", "b-2", "b-3"))
    escalated = step(
        0,
        "",
        "by [b-1]",
        answerer=Answerer.TEACHER,
        reasoning="[b-1]",
        calls=(
            Call(model="t", answerer=Answerer.TEACHER, purpose=Purpose.ACT, replies=(Reply(text="by [b-1]"),)),
            _saying(Purpose.ACT, Reply(text="unsure: [b-2]")),
        ),
    )
    assert case_of(episode(escalated, plan="As [b-3] says.", playbook=shown)).cited == ("b-3", "b-2")


def test_what_was_noted_while_it_ran_counts_too_and_nothing_that_was_not_shown() -> None:
    use = PlaybookUse(name="p", shown=("b-1", "b-2"), cited=("b-2", "b-7"), withheld=("b-7",))
    case = case_of(episode(step(0, "", "by [b-1] and [b-7]"), playbook=use))
    assert (case.shown, case.cited) == (("b-1", "b-2"), ("b-2", "b-1"))


def test_without_a_playbook_nothing_was_named() -> None:
    case = case_of(episode(step(0, "", "by [b-1]")))
    assert (case.shown, case.cited) == ((), ())


# --- nothing in it closes its quoting -------------------------------------------------------------------------------


def _everywhere(text: str) -> Trajectory:
    """An episode into which a stranger could write this text wherever text is."""
    return episode(
        step(
            0,
            observation=Observation(text=text, tool_results=(ToolResult(call_id=text, text=text),)),
            action=Action(text=text, tool_calls=(ToolCall(id=text, name=text, arguments=text),)),
            reasoning=text,
            error=ErrorRecord(kind=text, message=text),
        ),
        task=Task(id="q", environment="e", goal=text, data={"label": text}),
        plan=text,
        final_observation=Observation(text=text, tool_results=(ToolResult(call_id="c", text=text),)),
        outcome=Outcome(success=False, detail=text),
        error=ErrorRecord(kind=text, message=text),
    )


@pytest.mark.parametrize("tokens", [120, 6000])
@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_nothing_leaves_its_quotation(name: str, tokens: int) -> None:
    case = case_of(_everywhere(PAYLOADS[name]), tokens=tokens)
    assert unmarked(case.account) == []
    assert count(case.account) <= tokens
    for text in (case.account, case.goal, case.feedback, case.label):
        look = skeleton(text)
        assert not OWN_ID.search(look)
        assert not TOKEN.search(look)
        assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}


@given(st.text(max_size=300), st.integers(100, 400))
def test_no_account_can_close_its_quoting(text: str, tokens: int) -> None:
    account = case_of(_everywhere(text), tokens=tokens).account
    assert unmarked(account) == []
    assert not OWN_ID.search(skeleton(account))
    assert count(account) <= tokens


@given(st.lists(st.sampled_from(sorted(PAYLOADS)), min_size=1, max_size=4), st.integers(3, 500), st.text(max_size=5))
def test_a_quotation_has_a_mark_on_every_line(names: list[str], limit: int, between: str) -> None:
    text = between.join(PAYLOADS[name][:400] for name in names)
    lines = quoted(text, limit)
    assert all(line.startswith(MARK) or re.fullmatch(r"    \([\d,]+ characters left out\)", line) for line in lines)
    assert all("\n" not in line and "\r" not in line for line in lines)
    assert "\n".join(quoted("\n".join(line.removeprefix(MARK) for line in lines), 10**6)).count(MARK) <= len(lines)


# --- what fits ------------------------------------------------------------------------------------------------------


def _long(steps: int, size: int) -> Trajectory:
    made = (step(n, f"Room {n}. " + "x" * size, f"go {n}", reasoning=f"thought {n}") for n in range(steps))
    return episode(*made, final_observation=Observation(text="The end. " + "y" * size, done=True))


def test_a_short_episode_is_kept_whole() -> None:
    assert "left out" not in case_of(_long(10, 50)).account


def test_middle_steps_are_shortened_first() -> None:
    account = case_of(_long(12, 3000), tokens=6000).account
    assert count(account) <= 6000
    shortened = [number for number, words in _by_step(account).items() if "characters left out" in words]
    assert shortened == list(range(3, 9))
    assert all(f"go {n}" in account and f"thought {n}" in account for n in range(12))
    assert account.count("characters left out") == 6
    assert count(account) > 5000


def _by_step(account: str) -> dict[int, str]:
    parts = re.split(r"^Step (\d+) .*$|^The episode", account, flags=re.MULTILINE)
    return {int(number): words for number, words in zip(parts[1::2], parts[2::2], strict=True) if number}


def test_whole_steps_go_from_the_centre_with_a_line_that_counts_them() -> None:
    account = case_of(_long(400, 300), tokens=2000).account
    (gap,) = re.findall(r"^\((\d+) steps left out here\)$", account, re.MULTILINE)
    kept = [int(number) for number in re.findall(r"^Step (\d+) ", account, re.MULTILINE)]
    assert len(kept) + int(gap) == 400
    assert kept[:2] == [1, 2]
    assert kept[-4:] == [397, 398, 399, 400]
    assert 1500 < count(account) <= 2000


def test_the_ends_are_shortened_last_and_the_last_step_stays_longest() -> None:
    account = case_of(_long(400, 20_000), tokens=300).account
    assert "go 399" in account
    assert "The episode ended here" in account
    assert count(account) <= 300


def test_a_limit_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="99 tokens says nothing"):
        case_of(shipping(), tokens=99)


class _Letters:
    """A tokenizer for which every character is three tokens, and a line of its own costs more."""

    name = "letters"

    def count(self, text: str) -> int:
        return 3 * len(text) + 5 * text.count("\n")


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300), st.sampled_from("aé界\n<[")), max_size=30),
    st.integers(200, 3000),
    st.booleans(),
)
def test_an_account_never_exceeds_its_tokens(sizes: list[tuple[int, int, str]], tokens: int, letters: bool) -> None:
    counter = _Letters() if letters else EstimatedTokens()
    made = episode(*(step(n, each * seen, each * done) for n, (seen, done, each) in enumerate(sizes)))
    account = case_of(made, tokens=tokens, counter=counter).account
    assert counter.count(account) <= tokens
    assert unmarked(account) == []


def test_shortening_keeps_head_and_tail_and_says_what_is_missing() -> None:
    assert quoted("a" * 90 + "b" * 10, 30) == [MARK + "a" * 20, "    (70 characters left out)", MARK + "b" * 10]
    assert neutral_text("a" * 90 + "b" * 10, 30) == f"{'a' * 20}\n(70 characters left out)\n{'b' * 10}"


@given(st.integers(1, 10**6), st.integers(0, 200))
def test_lengths_to_try_fall_from_the_most_to_the_least(most: int, least: int) -> None:
    found = limits(most, least)
    assert found[-1] == least
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found) or most == least
    assert max(found) == max(most, least)


def test_one_megabyte_at_every_step_is_shortened() -> None:
    huge = episode(*(step(n, "word " * 209_715, "go") for n in range(8)))
    assert count(case_of(huge).account) <= 6000
