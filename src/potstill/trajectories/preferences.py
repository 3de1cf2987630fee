"""Pairs of answers to the very same prompt, a better and a worse one, for preference training (DPO, arXiv 2305.18290).

What it knows: TRL's preference format (huggingface.co/docs/trl/dataset_formats, read 2026-11): ``prompt``, ``chosen``
and ``rejected`` as messages, with ``tools``. What it does not do: judge answers (who gave them and how the episode
ended does), find conversations (``finetuning``).

Chosen is what the wanted answerers (the teacher) did in an episode that succeeded. Rejected is another answer at the
same prefix: done by anybody else, or by anybody in an episode that failed, or meant by a student that was overruled
there. What is chosen anywhere at a prefix is nowhere rejected at it.

Prefixes are equal if everything that was seen and done before is, and the tools: ids of calls aside, and, in episodes
of runs, the system message, in which demonstrations may stand; the pair then has the one of the chosen answer.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import IO, Any, BinaryIO, NamedTuple

import msgspec

from potstill.trajectories.finetuning import Thread, Unfit, is_recorded, threads
from potstill.trajectories.trl import told_messages, told_tools
from potstill.types import Answerer, Message, Outcome, Trajectory

TEACHER = frozenset({Answerer.TEACHER})
UNPAIRED = "chosen answers in whose prefix nothing else was done"


def write_preferences(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer] = TEACHER,
    left_out: Counter[str] | None = None,
) -> int:
    """A row for each pair; returns how many. ``answerers``: whose answers are chosen.

    ``all_outcomes``: how episodes ended is not asked, so that what the others did is rejected and nothing else. Reads
    the episodes once; memory holds some hundred bytes an answer. ``left_out`` counts, by reason, what has no pair.
    """
    reasons: Counter[str] = Counter() if left_out is None else left_out
    count = 0
    with tempfile.TemporaryFile() as file:
        pairs = Pairs(file)
        for trajectory in trajectories:
            try:
                for thread in threads(trajectory):
                    keys = prefixes(trajectory.namespace, thread, whole=is_recorded(trajectory))
                    pairs.add(thread, keys, judge_of(trajectory, answerers, all_outcomes))
            except Unfit as reason:
                reasons[str(reason)] += 1
        for row in pairs.rows():
            target.write(msgspec.json.encode(row) + b"\n")
            count += 1
        if pairs.unpaired:
            reasons[UNPAIRED] += pairs.unpaired
    return count


class Judge(NamedTuple):
    """What an episode says of the answers in it."""

    wanted: frozenset[Answerer]
    good: bool
    bad: bool

    def chooses(self, answerer: Answerer) -> bool:
        return self.good and answerer in self.wanted

    def rejects(self, answerer: Answerer) -> bool:
        return self.bad or answerer not in self.wanted


def judge_of(trajectory: Trajectory, answerers: Collection[Answerer], all_outcomes: bool) -> Judge:
    success = (trajectory.outcome or Outcome(success=None)).success
    return Judge(frozenset(answerers), all_outcomes or success is True, not all_outcomes and success is False)


class _Chosen(NamedTuple):
    """An answer, and where its conversation lies in the temporary file."""

    said: bytes
    offset: int
    at: int


class Pairs:
    """Answers by what stands before them, and the pairs that they make. ``file``: holds conversations meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._chosen: dict[bytes, list[_Chosen]] = {}
        self._rejected: dict[bytes, dict[bytes, bytes]] = {}
        self.unpaired = 0

    def add(self, thread: Thread, keys: Sequence[bytes], judge: Judge) -> None:
        """Raises ``Unfit`` for a conversation that the format cannot say; nothing of it is kept then."""
        messages, answers = told_messages(thread.messages), sorted(thread.given.items())
        line = msgspec.json.encode({"messages": messages, **told_tools(thread.tools)}) + b"\n"
        offset: int | None = None
        for at, answerer in answers:
            said = _same_said(thread.messages[at])
            if judge.chooses(answerer):
                if offset is None:
                    offset = self._file.tell()
                    self._file.write(line)
                known = self._chosen.setdefault(keys[at], [])
                if said not in {one.said for one in known}:
                    known.append(_Chosen(said, offset, at))
            elif judge.rejects(answerer):
                self._rejected.setdefault(keys[at], {}).setdefault(said, msgspec.json.encode(messages[at]))
            for text in _overruled(thread, at, judge):
                meant = Message(role="assistant", content=text)
                row = msgspec.json.encode(told_messages([meant])[0])
                self._rejected.setdefault(keys[at], {}).setdefault(_same_said(meant), row)

    def rows(self) -> Iterator[dict[str, Any]]:
        """In TRL's format; counts those chosen that have no other answer beside them."""
        for key, chosen in self._chosen.items():
            right = {one.said for one in chosen}
            wrong = [row for said, row in self._rejected.get(key, {}).items() if said not in right]
            if not wrong:
                self.unpaired += len(chosen)
                continue
            for one in chosen:
                self._file.seek(one.offset)
                told = msgspec.json.decode(self._file.readline())
                messages, tools = told.pop("messages"), told
                for row in wrong:
                    yield {
                        "prompt": messages[: one.at],
                        "chosen": [messages[one.at]],
                        "rejected": [msgspec.Raw(row)],
                        **tools,
                    }


def _overruled(thread: Thread, at: int, judge: Judge) -> list[str]:
    """What a student meant to do where a wanted answerer did something."""
    step = thread.steps.get(at)
    if step is None or step.decision is None or step.answerer not in judge.wanted or Answerer.STUDENT in judge.wanted:
        return []
    meant = (vote.text.strip() for vote in step.decision.votes if vote.key is not None)
    return [] if step.action.tool_calls else list(dict.fromkeys(text for text in meant if text))


# --- sameness -------------------------------------------------------------------------------------------------------


def prefixes(namespace: str, thread: Thread, *, whole: bool) -> list[bytes]:
    """Of each message a hash of all that stands before it; ids of calls are numbers in their order.

    The tenant is in it: no pair is made of two tenants' answers.
    """
    seen = hashlib.sha256(msgspec.json.encode((namespace, thread.tools)))
    numbers: dict[str, str] = {}
    keys = []
    for message in thread.messages:
        keys.append(seen.digest()[:16])
        if message.role == "system" and not whole:
            continue
        for call in message.tool_calls:
            numbers.setdefault(call.id, str(len(numbers)))
        said = msgspec.structs.replace(
            message,
            tool_calls=tuple(msgspec.structs.replace(call, id=numbers[call.id]) for call in message.tool_calls),
            tool_call_id=None if message.tool_call_id is None else numbers.get(message.tool_call_id, ""),
        )
        seen.update(msgspec.json.encode(said) + b"\n")
    return keys


def _same_said(message: Message) -> bytes:
    """Equal for answers that do the same: calls by name and arguments, else the text."""
    calls = [(call.name, _arguments(call.arguments)) for call in message.tool_calls]
    said = msgspec.json.encode(calls or message.content.strip(), order="deterministic")
    return hashlib.blake2b(said, digest_size=16).digest()


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text
