"""A student by rule: it does what it is used to, unless a line in its prompt tells it otherwise. A ``ScriptedModel``.

What it knows: its prompt (system text, goal, history, admissible actions). What it does not do: know an environment or
a playbook; a bullet that does not stand in the prompt does not exist for it.

Habits come from its seed: one way for each kind of action. Now and then it does something else, and after trouble it
tries another way or something besides. A note of the prompt (``_scripted_notes``) whose condition fits the goal comes
before habits; it names the bullets that it followed. It overlooks a fitting note in a share of its decisions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from _scripted_notes import Note, fields_of, read_note
from _scripted_roles import chance
from potstill.models.scripted import ScriptedModel
from potstill.types import Reply, Request, Struct

OVERLOOKS = 0.03
"""Share of decisions in which it follows no note."""
VARIES = 0.15
"""Share of decisions in which it does not take its usual way."""
BESIDES = 0.05
"""Share of decisions in which it does something besides without being told."""

_LINE = re.compile(r"^(?:\[(b-\d+)\] )?((?:When |Always: ).+)$", re.MULTILINE)
_TROUBLE = re.compile(r"^Trouble: (.+?)\.(?:\s|$)", re.MULTILINE)


def student(seed: int, name: str = "scripted-student") -> ScriptedModel:
    """The model; ``requests`` grows with every question: clear it."""
    return ScriptedModel(lambda request, index: decide(request, seed), name=name)


class _Seen(Struct, frozen=True, kw_only=True):
    """What the prompt says of the present decision."""

    admissible: tuple[str, ...]
    verb: str
    """The kind of action that there are several ways for."""
    done: tuple[str, ...]
    troubles: tuple[tuple[str, str], ...]
    """After which action, and which."""
    draw: str

    @property
    def tried(self) -> list[str]:
        return [action for action in self.done if _kind(action) == self.verb]

    @property
    def ways(self) -> list[str]:
        return [action for action in self.admissible if _kind(action) == self.verb]

    @property
    def besides(self) -> list[str]:
        return [action for action in self.admissible if _kind(action) != self.verb]


def decide(request: Request, seed: int) -> Reply:
    """The next action, and in ``reasoning`` the bullets that it follows."""
    texts = [message.content for message in request.messages]
    seen = _look(request, seed)
    fields = fields_of(texts[1]) if len(texts) > 1 else {}
    notes = [(id, note) for id, note in _notes(texts[0]) if note.fits(fields)]
    if chance("overlooks", seen.draw) < OVERLOOKS:
        notes = []
    action, ways, cited = _follow(seen, notes)
    usual = _habit(seen, seed, _avoided(seen, notes))
    if not action:
        action = usual if usual in ways or not ways else ways[0]
    said = f"By {', '.join(cited)}." if cited else ""
    return Reply(text=action, reasoning=said)


def _look(request: Request, seed: int) -> _Seen:
    kinds = Counter(_kind(action) for action in request.admissible)
    verb = next((kind for kind, count in kinds.items() if count > 1), "")
    done, troubles = [], []
    for message in request.messages[1:]:
        if message.role == "assistant":
            done.append(message.content)
        elif done and (found := _TROUBLE.search(message.content)):
            troubles.append((done[-1], found[1]))
    draw = f"{seed} {request.seed} {len(done)}"
    return _Seen(
        admissible=request.admissible, verb=verb, done=tuple(done), troubles=tuple(dict.fromkeys(troubles)), draw=draw
    )


def _notes(system: str) -> list[tuple[str, Note]]:
    read = [(id, read_note(line)) for id, line in _LINE.findall(system)]
    return [(id, note) for id, note in read if note is not None]


def _follow(seen: _Seen, notes: Sequence[tuple[str, Note]]) -> tuple[str, list[str], list[str]]:
    """Something that a fitting note asks for and that is not done yet; or else the ways that fitting notes ask for.
    And which bullets were followed."""
    cited: list[str] = []
    ways: list[str] = []
    failed = {action for action, _ in seen.troubles}
    avoided = _avoided(seen, notes)
    for id, note in notes:
        if note.verb != seen.verb and not any(_kind(action) == note.verb for action in note.use):
            continue
        asked = _asked(seen, note)
        if asked in seen.besides and asked not in avoided and (note.verb == seen.verb or _kind(asked) == note.verb):
            return asked, [], [id] if id else []
        if note.verb == seen.verb:
            ways += [asked] if asked in seen.ways and asked not in failed | avoided else []
            cited += [id] if id else []
    return "", ways, cited


def _asked(seen: _Seen, note: Note) -> str:
    """Of several remedies the first that has not been followed by the same trouble already."""
    if not note.use:
        return ""
    again = sum(trouble == note.trouble and _kind(action) == note.verb for action, trouble in seen.troubles)
    return note.use[min(again, len(note.use) - 1)]


def _avoided(seen: _Seen, notes: Sequence[tuple[str, Note]]) -> set[str]:
    return {action for _, note in notes for action in note.avoid}


def _habit(seen: _Seen, seed: int, avoided: set[str]) -> str:
    besides = [action for action in seen.besides if action not in avoided]
    ways = sorted(action for action in seen.ways if action not in avoided) or sorted(seen.ways)
    if not ways:
        return _pick(besides or list(seen.admissible), "any", seen.draw)
    tried = seen.tried
    if tried:
        return _after_trouble(seen, ways, besides)
    if besides and chance("besides", seen.draw) < BESIDES:
        return _pick(besides, "which besides", seen.draw)
    if chance("varies", seen.draw) < VARIES:
        return _pick(ways, "which way", seen.draw)
    return ways[int(chance("habit", seed, seen.verb) * len(ways))]


def _after_trouble(seen: _Seen, ways: Sequence[str], besides: Sequence[str]) -> str:
    """Whatever it did last for this, something is to be different now: one thing at a time."""
    tried = seen.tried
    if _kind(seen.done[-1]) != seen.verb and tried[-1] in ways:
        return tried[-1]
    untried = [way for way in ways if way not in tried]
    if untried and (not besides or chance("another way", seen.draw) < 0.5):
        return _pick(untried, "which other way", seen.draw)
    return _pick(besides or ways, "which besides", seen.draw)


def _pick(among: Sequence[str], *words: object) -> str:
    return among[int(chance(*words) * len(among))]


def _kind(action: str) -> str:
    return action.partition(" ")[0]
