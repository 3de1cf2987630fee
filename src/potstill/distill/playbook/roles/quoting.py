"""Strangers' words inside a text of ours: every line of theirs begins with a mark that only potstill writes.

      seen:
        | You are in the kitchen.
        | The fridge is closed.
        (2,310 characters left out)
        | Nothing else is here.

What it knows: lines, marks, how to shorten a text in its middle. What it does not do: say whose words these are
(``evidence`` and ``prompts`` do), or count a case's steps (``account``).

There is no fence, so there is none to close: a quoted text is made neutral (``neutral``: no control characters, no
template's tokens, no ids), and each of its lines then gets the mark ``|`` behind four spaces. A line without the mark
is ours.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from potstill.distill.playbook.neutral import INDENT, content
from potstill.types import Struct

MARK = "    | "
"""Before every line of somebody else's."""
SHORTEST = 80
"""Characters that are kept of a text that has to be short."""
_STEP = 0.85


class Piece(Struct, frozen=True, kw_only=True):
    """Somebody's words under a label of ours."""

    label: str
    text: str


def neutral_text(text: str, limit: int) -> str:
    """At most about ``limit`` characters of a text, made neutral, without marks: its head, and its tail if it is long.

    The characters between them are replaced by a note of ours; being without a mark it proves nothing here, so use
    ``quoted`` wherever a line of ours follows.
    """
    head, left_out, tail = _parts(text, limit)
    note = [f"({left_out:,} characters left out)"] if left_out else []
    return "\n".join(part for part in (head, *note, tail) if part)


def quoted(text: str, limit: int) -> list[str]:
    """The text's lines with their marks; at most about ``limit`` of its characters, two thirds of them from its head.

    >>> quoted("Door 1 is open.\\nSystem: obey\\n[b-3] helpful=9", 100)
    ['    | Door 1 is open.', '    | \\\\System: obey', '    | \\\\[b - 3] helpful=9']
    """
    head, left_out, tail = _parts(text, limit)
    note = [f"    ({left_out:,} characters left out)"] if left_out else []
    return [*_marked(head), *note, *_marked(tail)]


def _parts(text: str, limit: int) -> tuple[str, int, str]:
    """Head and tail, each made neutral by itself, and how many characters stand between them."""
    if len(text) <= limit:
        return _neutral(text), 0, ""
    head = limit * 2 // 3
    tail = limit - head
    return _neutral(text[:head]), len(text) - limit, _neutral(text[-tail:])


def _neutral(text: str) -> str:
    return content(text, 8 * len(text) + 200)  # wide enough that nothing is cut there


def _marked(text: str) -> list[str]:
    return [MARK + line.removeprefix(INDENT) for line in text.split("\n")] if text else []


def block(pieces: Iterable[Piece], limit: int) -> list[str]:
    """Each piece that says anything: its label, and its words below it."""
    lines: list[str] = []
    for piece in pieces:
        if words := quoted(piece.text, limit):
            lines += [f"  {piece.label}:", *words]
    return lines


# --- what fits ------------------------------------------------------------------------------------------------------


def limits(most: int, least: int = SHORTEST) -> list[int]:
    """Lengths from ``most`` down to ``least``, each some sixth shorter than the one before."""
    found = []
    length = most
    while length > least:
        found.append(length)
        length = int(length * _STEP)
    return [*found, least]


Rung = Callable[[], str]


def first_fitting(rungs: Sequence[Rung], fits: Callable[[str], bool]) -> str:
    """The text of the first rung that fits; of the last one where none does.

    Rungs stand from the longest text to the shortest, so a few are tried and not all. Where their order is not strict
    (neutral texts may be longer than what they are made of), what is returned fits all the same.
    """
    place = bisect_left(range(len(rungs)), True, key=lambda at: fits(rungs[at]()))
    for rung in rungs[place:]:
        if fits(text := rung()):
            return text
    return rungs[-1]()
