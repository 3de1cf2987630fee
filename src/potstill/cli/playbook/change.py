"""``potstill playbook add, pin, unpin, stage, tag, quarantine, restore, remove, merge``: one batch each.

What it knows: which operation a command is. What it does not do: decide whether it is allowed (``apply``); an edit with
its conflicts is in ``edit``. Several ids are one batch: all of it is applied, or nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_table, json_option, note
from potstill.cli.playbook.books import Place, actor_option, applied, book_options, bullets_named, reason_option
from potstill.cli.playbook.shown import shortened
from potstill.cli.playbook.typed import read_text, safe_text
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.operations import Applied, Bullet, Operation, Tag

STAGES = ("shadow", "canary", "live")
ids_argument = click.argument("ids", nargs=-1, required=True, metavar="ID...")


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that changes a book takes, behind its own."""
    return book_options(actor_option(reason_option(json_option(command))))


@click.command()
@click.argument("text", required=False)
@click.option("--section", default="others", show_default=True, help="Any name; the text gathers bullets by it.")
@click.option("--stage", type=click.Choice(STAGES), default="live", show_default=True, help="Who is shown it.")
@click.option("--source", "sources", multiple=True, metavar="ID", help="Episode it was learnt from; repeatable.")
@click.option("--even-if-alike", is_flag=True, help="Also where a bullet says nearly the same.")
@change_options
def add(
    text: str | None,
    place: Place,
    section: str,
    stage: str,
    sources: tuple[str, ...],
    even_if_alike: bool,
    actor: str,
    reason: str,
    json_mode: bool,
) -> None:
    """Add a bullet: TEXT, - for stdin, or what you write in your editor.

    What could pass for more than one bullet, for an id or for a command to a terminal is made harmless, and said so.
    """
    from potstill.distill.playbook.operations import Add, Batch, Stage
    from potstill.distill.playbook.sections import DEFAULT, section_key

    content = safe_text(_given(text))
    key = section_key(section)
    batch = Batch(
        operations=(Add(section=key, content=content, stage=Stage(stage)),), actor=actor, sources=sources, reason=reason
    )
    with place.writing(new=True) as book:
        known = book.bullets()
        if not even_if_alike:
            _must_be_new(known.values(), key, content, place.typed)
        done = applied(book, batch)
    if known and key not in {one.key for one in DEFAULT.known} | {one.section for one in known.values()}:
        note(f"The section '{key}' is new in this book.")
    _print(book, done, done.ids, json_mode)
    note(f"{done.ids[0]} is {_shown_to(stage)}.")


def _given(text: str | None) -> str:
    if text == "-":
        return read_text(sys.stdin.buffer, "stdin")
    if text is not None:
        return text
    if not sys.stdin.isatty():
        raise ConfigError("No text was given. Type: potstill playbook add TEXT, or - to read it from stdin")
    written = click.edit("", extension=".txt")
    if written is None or not written.strip():
        raise ConfigError("Nothing was written, so nothing was added.")
    return written


def _must_be_new(bullets: Iterable[Bullet], section: str, content: str, typed: str) -> None:
    from potstill.distill.playbook.twins import BookIndex, Gate

    index = BookIndex(_alike(bullets, content))
    twin = index.twin(section, content, Gate())
    if twin is None:
        return
    raise ConfigError(
        f"{twin.id} says so already ({twin.how}, {twin.similarity:.2f}): '{shortened(index[twin.id].content, 80)}'. "
        f"Nothing was added. Type: potstill playbook edit {twin.id}{typed}, or --even-if-alike to add it all the same"
    )


def _alike(bullets: Iterable[Bullet], content: str) -> Iterator[Bullet]:
    """Those that share a third of the text's trigrams: near ones share more, and to index all takes seconds."""
    from potstill.distill.playbook.similar import normalised

    wanted = _trigrams(normalised(content))
    least = len(wanted) / 3
    return (one for one in bullets if len(wanted & _trigrams(normalised(one.content))) >= least)


def _trigrams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}


def _shown_to(stage: str) -> str:
    return {"shadow": "in shadow: nobody is shown it", "canary": "shown to a share of the episodes"}.get(
        stage, "shown to everybody from the next episode on"
    )


# --- one operation for each id --------------------------------------------------------------------------------------


@click.command()
@ids_argument
@change_options
def pin(ids: tuple[str, ...], place: Place, actor: str, reason: str, json_mode: bool) -> None:
    """Keep bullets in the text, whatever the budget and their utility."""
    from potstill.distill.playbook.operations import Pin

    _each(place, ids, lambda id: Pin(id=id), actor, reason, json_mode)


@click.command()
@ids_argument
@change_options
def unpin(ids: tuple[str, ...], place: Place, actor: str, reason: str, json_mode: bool) -> None:
    """Let bullets be judged by their utility again."""
    from potstill.distill.playbook.operations import Pin

    _each(place, ids, lambda id: Pin(id=id, pinned=False), actor, reason, json_mode)


@click.command()
@ids_argument
@change_options
def quarantine(ids: tuple[str, ...], place: Place, actor: str, reason: str, json_mode: bool) -> None:
    """Show bullets to nobody from the next episode on, until they are restored."""
    from potstill.distill.playbook.operations import Quarantine

    _each(place, ids, lambda id: Quarantine(id=id, reason=reason), actor, reason, json_mode)


@click.command()
@ids_argument
@change_options
def restore(ids: tuple[str, ...], place: Place, actor: str, reason: str, json_mode: bool) -> None:
    """Bring bullets back out of quarantine, or after a removal or merge."""
    from potstill.distill.playbook.operations import Restore

    _each(place, ids, lambda id: Restore(id=id), actor, reason, json_mode)


@click.command()
@ids_argument
@change_options
def remove(ids: tuple[str, ...], place: Place, actor: str, reason: str, json_mode: bool) -> None:
    """Take bullets out of the book. The log keeps them: 'restore' and 'rollback' bring them back, 'forget' erases."""
    from potstill.distill.playbook.operations import Remove

    _each(place, ids, lambda id: Remove(id=id, reason=reason), actor, reason, json_mode)


@click.command()
@click.argument("id")
@click.option("--helpful", type=int, default=0, help="Votes to add; negative ones take back.")
@click.option("--harmful", type=int, default=0, help="The same.")
@click.option("--neutral", type=int, default=0, help="The same.")
@change_options
def tag(
    id: str, place: Place, helpful: int, harmful: int, neutral: int, actor: str, reason: str, json_mode: bool
) -> None:
    """Vote on a bullet."""
    from potstill.distill.playbook.operations import Tag

    if not (helpful or harmful or neutral):
        raise ConfigError(f"No vote was given. Type: potstill playbook tag {id}{place.typed} --helpful 1")
    vote = Tag(id=id, helpful=helpful, harmful=harmful, neutral=neutral)
    _each(place, (id,), lambda _: vote, actor, reason, json_mode, check=lambda one: _must_have(one, vote))


def _must_have(bullet: Bullet, vote: Tag) -> None:
    """Raises ``ConfigError`` where more votes would be taken back than there are."""
    for name in ("helpful", "harmful", "neutral"):
        there, given = getattr(bullet, name), getattr(vote, name)
        if given < 0 and there + given < 0:
            raise ConfigError(
                f"--{name} {given} would take back more votes than {bullet.id} has: {there}. Nothing was changed."
            )


@click.command()
@click.argument("stage", type=click.Choice(STAGES))
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--from", "from_stage", type=click.Choice(STAGES), help="All bullets that are at this stage.")
@change_options
def stage(
    stage: str,
    ids: tuple[str, ...],
    from_stage: str | None,
    place: Place,
    actor: str,
    reason: str,
    json_mode: bool,
) -> None:
    """Say who is shown bullets: nobody (shadow), a share of the episodes (canary), or everybody (live)."""
    from potstill.distill.playbook.operations import SetStage, Stage

    if bool(ids) == (from_stage is not None):
        raise ConfigError(
            f"Name bullets or a stage. Type: potstill playbook stage {stage} b-1{place.typed}, or --from shadow"
        )
    if from_stage is not None:
        with place.reading() as book:
            open_ = (one for one in book.bullets().values() if not one.removed and not one.quarantined)
            ids = tuple(one.id for one in open_ if one.stage == from_stage)
        if not ids:
            raise ConfigError(f"No bullet of '{book.name}' is at stage {from_stage}. Nothing was changed.")
    _each(place, ids, lambda id: SetStage(id=id, stage=Stage(stage)), actor, reason, json_mode)


@click.command()
@click.argument("into")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--content", metavar="TEXT", help="The text from now on. [default: that of INTO]")
@change_options
def merge(
    into: str,
    ids: tuple[str, ...],
    content: str | None,
    place: Place,
    actor: str,
    reason: str,
    json_mode: bool,
) -> None:
    """Merge bullets into INTO, which takes their votes. 'restore' takes one out again."""
    from potstill.distill.playbook.operations import Batch, Merge

    with place.writing() as book:
        named = {one.id: one for one in bullets_named(place, book, (into, *ids))}
        goes = tuple(dict.fromkeys(ids))
        text = safe_text(content) if content is not None else named[into].content
        revisions = tuple(named[id].revision for id in (into, *goes))
        operation = Merge(into=into, ids=goes, content=text, revisions=revisions)
        done = applied(book, Batch(operations=(operation,), actor=actor, reason=reason))
    _print(book, done, (into, *ids), json_mode)


def _each(
    place: Place,
    ids: Sequence[str],
    operation: Callable[[str], Operation],
    actor: str,
    reason: str,
    json_mode: bool,
    check: Callable[[Bullet], object] = lambda _: None,
) -> None:
    """An operation for each bullet, in batches as large as may be; one, but for thousands of ids.

    ``check``: raises for a bullet that it may not be done to.
    """
    from potstill.distill.playbook.operations import MAX_OPERATIONS, Batch

    with place.writing() as book:
        named = bullets_named(place, book, ids)
        for one in named:
            check(one)
        for start in range(0, len(named), MAX_OPERATIONS):
            operations = tuple(operation(one.id) for one in named[start : start + MAX_OPERATIONS])
            done = applied(book, Batch(operations=operations, actor=actor, reason=reason))
        if any(one.removed for one in named):
            _warn(list(book.bullets([one.id for one in named if one.removed]).values()))
    _print(book, done, [one.id for one in named], json_mode)


def _warn(bullets: Sequence[Bullet]) -> None:
    if removed := [one.id for one in bullets if one.removed]:
        note(f"Removed before, and shown to nobody unless restored: {shortened(', '.join(removed))}")


def _print(book: Playbook, done: Applied, ids: Sequence[str], json_mode: bool) -> None:
    row = (book.name, done.revision, list(ids) if json_mode else " ".join(ids))
    emit_table(("book", "revision", "bullets"), [row], json_mode=json_mode)
