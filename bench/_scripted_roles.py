"""A Reflector and a Curator by rule, for a learning curve without any service: they see what a model would, no more.

What they know: a ``Case`` (goal, account, outcome) and the bullets that they are handed. What they do not do: know an
environment (nothing here imports one), remember anything between calls (the playbook is the only memory), see a rule.

*Reflector.* After a line ``Trouble: X.`` it looks what was different when the same kind of action (its first word) went
well later in the same account: what was done in between, another way. Where it was not mended, it names what had been
done before. The condition is the order as it is. *Curator.* Notes against the same trouble of the same kind of action
are one lesson: it writes the most specific sentence that covers both (``_scripted_notes.general``), and takes out what
its users call harmful. Their mistakes are put in on purpose (``mistaken``), to measure what a weak Reflector costs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import reduce

import msgspec

from _scripted_notes import Note, exactly, fields_of, general, read_note
from potstill.distill.playbook.operations import Add, Bullet, Merge, Operation, Remove, Tag, Update
from potstill.distill.playbook.roles.contract import Case, Curating, Lesson, Reflecting
from potstill.distill.playbook.said import BulletTag, Reflection
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Answerer, Call, Purpose, Reply, Struct, Usage

SECTION = "strategies_and_hard_rules"
RETIRED_BY = 2
"""Votes that call a bullet harmful, more than those that call it helpful."""
MOST_ALIKE = 4
"""Notes on what went well that say the same of different orders."""

_TROUBLE = re.compile(r"^Trouble: (.+?)\.(?:\s|$)", re.MULTILINE)
_MARK = re.compile(r"^    \| ?")
_COUNT = EstimatedTokens().count


class Turn(Struct, frozen=True, kw_only=True):
    """Something that was done, and what was seen after it."""

    did: str
    saw: str = ""

    @property
    def verb(self) -> str:
        return self.did.partition(" ")[0]

    @property
    def trouble(self) -> str:
        found = _TROUBLE.search(self.saw)
        return found[1] if found else ""


def turns_of(account: str) -> tuple[Turn, ...]:
    """What was done and what came of it, out of an account (``roles.account`` writes it)."""
    parts: list[tuple[str, list[str]]] = []
    for line in account.splitlines():
        if _MARK.match(line):
            if parts:
                parts[-1][1].append(_MARK.sub("", line))
        elif line.startswith("  ") and line.endswith(":"):
            parts.append((line.strip().removesuffix(":"), []))
    turns: list[Turn] = []
    for label, lines in parts:
        text = "\n".join(lines)
        if label == "did":
            turns.append(Turn(did=text))
        elif label == "saw" and turns:
            turns[-1] = msgspec.structs.replace(turns[-1], saw=text)
    return tuple(turns)


# --- the Reflector --------------------------------------------------------------------------------------------------


class InductiveReflector:
    """Says what an account shows. ``successes``: also note what was done where an episode succeeded (for houses that
    keep silent about single troubles). ``mistaken``: the share of its lessons that name another remedy than the one
    that it saw, and of its votes that are turned round; by case, so that it is the same every time."""

    def __init__(
        self, *, successes: bool = False, mistaken: float = 0.0, seed: int = 0, answerer: Answerer = Answerer.TEACHER
    ) -> None:
        self.name = "inductive" if not mistaken else f"inductive, {mistaken:.0%} mistaken"
        self._successes = successes
        self._mistaken = mistaken
        self._seed = seed
        self._answerer = answerer

    async def reflect(
        self, case: Case, bullets: Mapping[str, Bullet], previous: Reflection | None = None
    ) -> Reflecting:
        turns = turns_of(case.account)
        notes = self._lessons(case, turns)
        reflection = Reflection(
            error_identification="\n".join(
                dict.fromkeys(f"{each.verb}: {each.trouble}" for each in notes if each.trouble)
            ),
            key_insight="\n".join(map(str, notes)),
            bullet_tags=tuple(self._votes(case, turns, bullets)),
        )
        asked = "\n".join([case.goal, case.account, *(bullets[id].content for id in case.shown if id in bullets)])
        call = billed(asked, msgspec.json.encode(reflection).decode(), Purpose.REFLECT, self._answerer)
        votes = tuple(_tag(vote) for vote in reflection.bullet_tags)
        return Reflecting(reflection=reflection, tags=votes, calls=(call,))

    def _lessons(self, case: Case, turns: Sequence[Turn]) -> list[Note]:
        fields = fields_of(case.goal)
        notes = lessons_of_trouble(fields, turns, whole="stopped here" not in case.account)
        if self._successes and case.success and not any(turn.trouble for turn in turns):
            notes = [Note(when=exactly(fields), verb=turn.verb, use=(turn.did,)) for turn in turns]
        actions = sorted({turn.did for turn in turns})
        return [self._perhaps_wrong(case, note, actions) for note in notes]

    def _perhaps_wrong(self, case: Case, note: Note, actions: Sequence[str]) -> Note:
        draw = chance(self._seed, case.id, note.verb, note.trouble)
        others = [action for action in actions if action not in note.use]
        if draw >= self._mistaken or not others:
            return note
        return msgspec.structs.replace(note, use=(others[int(draw * 1e6) % len(others)],), avoid=())

    def _votes(self, case: Case, turns: Sequence[Turn], bullets: Mapping[str, Bullet]) -> list[BulletTag]:
        """On the bullets that the episode named: did what they speak of go well?"""
        votes: list[BulletTag] = []
        for id in case.cited:
            note = read_note(bullets[id].content) if id in bullets else None
            if note is None:
                continue
            well = _went_well(note, turns) if note.trouble else case.success
            if well is None:
                continue
            if chance(self._seed, case.id, id) < self._mistaken:
                well = not well
            votes.append(BulletTag(id=id, tag="helpful" if well else "harmful"))
        return votes


def _went_well(note: Note, turns: Sequence[Turn]) -> bool | None:
    """Whether the trouble that a note is against stayed away; None: there was nothing of its kind, or another one."""
    troubles = [turn.trouble for turn in turns if turn.verb == note.verb]
    if note.trouble in troubles:
        return False
    return None if not troubles or any(troubles) else True


def lessons_of_trouble(fields: Mapping[str, str], turns: Sequence[Turn], *, whole: bool) -> list[Note]:
    """A note for each trouble of the account. ``whole``: the episode came to its end."""
    notes: dict[tuple[str, str], Note] = {}
    for place, turn in enumerate(turns):
        if turn.trouble and (turn.verb, turn.trouble) not in notes:
            note = _mended(fields, turns, place) or (_not_mended(fields, turns, place) if whole else None)
            if note is not None:
                notes[turn.verb, turn.trouble] = note
    return list(notes.values())


def _mended(fields: Mapping[str, str], turns: Sequence[Turn], first: int) -> Note | None:
    """What had changed when the same kind of action went without trouble for the first time after this."""
    verb, trouble = turns[first].verb, turns[first].trouble
    good = next((at for at in range(first, len(turns)) if turns[at].verb == verb and not turns[at].trouble), None)
    if good is None:
        return None
    bad = [turns[at] for at in range(good) if turns[at].verb == verb and turns[at].trouble == trouble]
    last = max(at for at in range(good) if turns[at] in bad)
    between = [turns[at].did for at in range(last + 1, good) if turns[at].verb != verb]
    ways = {turn.did for turn in bad}
    another = [turns[good].did] if turns[good].did not in ways else []
    avoid = tuple(ways) if len(ways) == 1 else ()
    use = tuple(dict.fromkeys([*between, *another]))
    return Note(when=exactly(fields), verb=verb, use=use, avoid=avoid, trouble=trouble) if use or avoid else None


def _not_mended(fields: Mapping[str, str], turns: Sequence[Turn], place: int) -> Note | None:
    """It went on as it was: what had been done besides is under suspicion, the way itself where there was nothing."""
    if any(turn.verb == turns[place].verb for turn in turns[place + 1 :]):
        return None
    kinds = [turn.verb for turn in turns[:place]]
    once = [turn.did for turn in turns[:place] if kinds.count(turn.verb) == 1]
    avoid = tuple(dict.fromkeys(once)) or (turns[place].did,)
    return Note(when=exactly(fields), verb=turns[place].verb, avoid=avoid, trouble=turns[place].trouble)


def _tag(vote: BulletTag) -> Tag:
    return Tag(id=vote.id, helpful=int(vote.tag == "helpful"), harmful=int(vote.tag == "harmful"))


# --- the Curator ----------------------------------------------------------------------------------------------------


class InductiveCurator:
    """Keeps one note for each trouble, as general as what was seen asks for."""

    name = "inductive"

    def __init__(self, *, answerer: Answerer = Answerer.TEACHER) -> None:
        self._answerer = answerer

    async def curate(
        self, lessons: Sequence[Lesson], bullets: Mapping[str, Bullet], objections: Sequence[str] = ()
    ) -> Curating:
        held = {id: one for id, one in bullets.items() if not one.removed and not one.quarantined and not one.pinned}
        notes = {id: note for id, one in held.items() if (note := read_note(one.content)) is not None}
        bad = [id for id in notes if held[id].harmful - held[id].helpful >= RETIRED_BY]
        standing = {id: one.helpful - one.harmful for id, one in held.items()}
        sheet = _Sheet({id: note for id, note in notes.items() if id not in bad}, standing)
        for lesson in lessons:
            for line in lesson.reflection.key_insight.splitlines():
                if (note := read_note(line)) is not None:
                    sheet.take(note)
        removed = [Remove(id=id, reason="called harmful more often than helpful") for id in bad]
        operations = (*removed, *sheet.operations(held))
        said = msgspec.json.encode(operations).decode()
        asked = "\n".join(
            [*(lesson.reflection.key_insight for lesson in lessons), *(one.content for one in held.values())]
        )
        call = billed(asked, said, Purpose.CURATE, self._answerer)
        return Curating(operations=operations, reasoning=f"{len(operations)} changes", calls=(call,))


class _Sheet:
    """The notes as they will be. A note without an id is new. ``standing``: how much more often one was called helpful
    than harmful."""

    def __init__(self, notes: Mapping[str, Note], standing: Mapping[str, int]) -> None:
        self._standing = standing
        self._twins: list[list[str]] = []
        self._before = dict(notes)
        self._notes = dict(notes)
        self._gone: list[str] = []
        self._new: list[Note] = []
        self._join()

    def _join(self) -> None:
        """Bullets of one trouble that several Curators made at once become one, where something helped in all cases."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for id, note in self._notes.items():
            if note.trouble:
                kinds.setdefault((note.verb, note.trouble), []).append(id)
        for ids in kinds.values():
            wider = reduce(general, (self._notes[id] for id in ids))
            if len(ids) > 1 and (wider.use or wider.avoid):
                self._twins.append(ids)
                self._notes[ids[0]] = wider
                for id in ids[1:]:
                    del self._notes[id]

    def _merged(self, ids: Sequence[str], held: Mapping[str, Bullet]) -> Merge:
        into, *others = ids
        revisions = tuple(held[id].revision for id in ids)
        return Merge(into=into, ids=tuple(others), content=str(self._notes[into]), revisions=revisions)

    def take(self, note: Note) -> None:
        """One more thing that was seen."""
        if note.trouble:
            self._against_trouble(note)
        else:
            self._went_well(note)

    def _against_trouble(self, note: Note) -> None:
        for at, mine in enumerate(self._new):
            if (mine.verb, mine.trouble) == (note.verb, note.trouble):
                wider = general(mine, note)
                self._new[at] = wider if wider.use or wider.avoid else note
                return
        for id, mine in self._notes.items():
            if (mine.verb, mine.trouble) == (note.verb, note.trouble):
                wider = general(mine, note)
                if wider.use or wider.avoid:
                    self._notes[id] = wider
                    return
                if self._standing[id] > 0:
                    return  # one contradiction does not undo what has helped
                self._drop(id)
                break
        self._new.append(note)

    def _went_well(self, note: Note) -> None:
        """A sentence for several orders must keep something that they share."""
        alike = {id: mine for id, mine in self._notes.items() if not mine.trouble and mine.use == note.use}
        for id, mine in alike.items():
            wider = general(mine, note)
            if any(isinstance(part, tuple) and len(part) == 1 for part in wider.when.values()):
                self._notes[id] = wider
                return
        if len(alike) < MOST_ALIKE and note not in self._new:
            self._new.append(note)

    def _drop(self, id: str) -> None:
        del self._notes[id]
        twins = next((ids for ids in self._twins if ids[0] == id), [id])
        self._twins = [ids for ids in self._twins if ids is not twins]
        self._gone += twins

    def operations(self, held: Mapping[str, Bullet]) -> list[Operation]:
        made: list[Operation] = [Remove(id=id, reason="what helped against it is never the same") for id in self._gone]
        joined = {id for ids in self._twins for id in ids}
        for id, note in self._notes.items():
            if note != self._before[id] and id not in joined:
                made.append(Update(id=id, content=str(note), revision=held[id].revision))
        made += [self._merged(ids, held) for ids in self._twins]
        return [*made, *(Add(section=SECTION, content=str(note)) for note in self._new)]


# --- what they are billed -------------------------------------------------------------------------------------------


def billed(asked: str, said: str, purpose: Purpose, answerer: Answerer) -> Call:
    """As a model would be that read and wrote these texts: tokens are estimated, and instructions are not counted."""
    usage = Usage(input_tokens=_COUNT(asked), output_tokens=_COUNT(said), estimated=True, counted_by="utf8-bytes/4")
    return Call(model="scripted", answerer=answerer, purpose=purpose, replies=(Reply(text=said),), usage=usage)


def chance(*words: object) -> float:
    """A number from 0 to 1 that depends on these words alone."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
