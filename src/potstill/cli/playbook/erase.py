"""``potstill playbook forget``: what an episode taught is erased, and a scan of every row proves it.

What it knows: that a tenant may have several books, and that copies elsewhere are not ours. What it does not do: decide
what goes (``forgetting``), or remove the episode itself (``potstill trajectories rm``).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.playbook.books import Place, actor_option, book_options, saying_why
from potstill.cli.playbook.shown import many, shortened
from potstill.cli.trajectories import reading, writing
from potstill.errors import ConfigError, PotstillError, UnknownName

if TYPE_CHECKING:
    from potstill.cli.playbook.erasing import Done, Told, What
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.renderings import StillThere
    from potstill.trajectories import Store

TOLD = ("prompts", "gone", "kept", "returned", "recounted")
COLUMNS = ("book", "batches_erased", *TOLD, "alike", "shared", "review", "traces")
LOOKED_FOR = (
    "no whole text, no 40 characters of one in a row, and in the books no number of 4 digits, no address and no name "
    "of two words. What says it in other words is found by nobody but you."
)
NOT_OURS = "Backups of the store and exported files are not potstill's to erase: look through them yourself."


@click.command()
@click.option("--source", metavar="ID", help="The episode, or other source, whose teaching is forgotten.")
@click.option("--bullet", "bullets", multiple=True, metavar="ID", help="A bullet with all its texts; repeatable.")
@book_options
@click.option("--dry-run", is_flag=True, help="Say what would go, and erase nothing.")
@actor_option
@json_option
def forget(
    source: str | None, bullets: tuple[str, ...], place: Place, dry_run: bool, actor: str, json_mode: bool
) -> None:
    """Erase what an episode taught, in every book of the namespace or in --book alone, or bullets of one book, whoever
    taught them. It cannot be undone.

    Texts, log, index and the pages in recorded prompts lose it; what others taught stays. Then every row of the books
    and episodes of the namespace is scanned for what was erased, and each trace that is left is printed, with what to
    type: none is the proof, else the exit code is 1. Looked for are whole texts, 40 characters of one in a row and, in
    books, telling pieces: numbers of 4 digits, addresses, names of two words. What was under way meanwhile is recorded
    with the old page: type it again then.
    """
    from potstill.cli.playbook import erasing

    what = erasing.What(source or "", bullets)
    _check(source, bullets)
    with reading(place.db) if dry_run else writing(place.db) as store:
        books, chosen = _books(store, place, bullets)
        known = _known(books, chosen, what)
        if dry_run:
            done = erasing.would_erase(books, chosen, what)
        else:
            with saying_why():
                done = erasing.erased(books, chosen, what, actor)
        stored = bool(source) and source in set(store.ids(namespace=place.namespace))
    rows = [_row(one) for one in done.books if one.forgotten is not None or one.traces or one.alike]
    if json_mode:
        about = {"source": source, "bullets": list(bullets), "known": known, "dry_run": dry_run}
        episodes = [_episode(one, place) for one in done.episodes]
        emit_json({**about, "books": rows, "episodes": episodes, "note": NOT_OURS})
    else:
        table = [[len(row[name]) if isinstance(row[name], list) else row[name] for name in COLUMNS] for row in rows]
        emit_table(COLUMNS, table, json_mode=False, left_out_first=("shared", "review", "recounted", "returned"))
        _tell(rows)
    for one in done.episodes:
        note(f"{_name(one, place)}: trace ({one.trace.kind}): {one.trace.excerpt}")
    if not known:
        what_ = f"'{source}'" if source else ", ".join(bullets)
        note(f"{what_} was forgotten before. What it said is not known any more, so it was not looked for.")
    _end(source or "", place, rows, done, dry_run, known=known)
    if stored and source and not dry_run:
        note(f"The episode itself is kept until you type: {_removing([source], place)}")


def _check(source: str | None, bullets: tuple[str, ...]) -> None:
    if source is not None and not source.strip():
        raise ConfigError("--source is empty, and no episode has such an id. Type: potstill trajectories list")
    if (source is None) == (not bullets):
        raise ConfigError("Name what to forget: --source ID, or --bullet ID (repeatable). Not both.")


def _known(books: list[Playbook], chosen: set[str], what: What) -> bool:
    """Whether there is something to forget; False where it was forgotten before. Raises where it never was there."""
    from potstill.cli.playbook import erasing

    if what.bullets:
        (book,) = (one for one in books if one.name in chosen)
        there, ever = book.bullets(what.bullets), {id for entry in book.log() for id in entry.ids}
        if missing := [id for id in what.bullets if id not in ever]:
            listing = f"potstill playbook show --book {shlex.quote(book.name)}"
            raise ConfigError(f"The playbook '{book.name}' never had a bullet '{missing[0][:40]}'. Type: {listing}")
        return bool(there)
    known = erasing.known_sources(books)
    if what.source in known or erasing.is_learnt_from(books, what.source):
        return True
    if not any(book.forgotten([what.source]) for book in books):
        raise PotstillError(_unknown(what.source, erasing.nearest(what.source, known)))
    return False


def _books(store: Store, place: Place, bullets: tuple[str, ...]) -> tuple[list[Playbook], set[str]]:
    """All of the tenant's, and which of them something is erased from: of bullets, the one that has them."""
    from potstill.distill.playbook.book import Playbook

    names = [info.name for info in store.playbooks(place.namespace)]
    if place.book is not None and place.book not in names:
        raise UnknownName("playbook", place.book, names)
    if not names:
        raise ConfigError(f"There is no playbook in namespace '{place.namespace}', so nothing is to be forgotten.")
    if bullets and place.book is None and len(names) > 1:
        raise ConfigError(f"There are {len(names)} playbooks. Type whose bullet it is: --book {shlex.quote(names[0])}")
    return [Playbook(store, place.namespace, name) for name in names], {place.book} if place.book else set(names)


def _row(told: Told) -> dict[str, Any]:
    """Without the erased texts: they are not to be printed either."""
    gone = {field: list(getattr(told.forgotten, field, ())) for field in TOLD}
    found = [{"place": one.place, "kind": str(one.kind), "excerpt": one.excerpt} for one in told.traces]
    erased = 0 if told.forgotten is None else len(told.forgotten.erased)
    held = {"alike": list(told.alike), "shared": list(told.shared)}
    held["holding"] = list(dict.fromkeys((*told.holding, *told.alike)))
    return {"book": told.name, "batches_erased": erased, **gone, "review": list(told.review), "traces": found, **held}


def _unknown(source: str, near: str | None) -> str:
    meant = "" if near is None else f" Did you mean '{near}'?"
    return f"Nothing was changed: no batch of any book names the source '{shortened(source, 80)}'.{meant}"


def _tell(rows: Sequence[dict[str, Any]]) -> None:
    """What a person has to look at."""
    for row in rows:
        for field, means in (
            ("returned", "were removed, merged away or hidden on the source's word alone, and are back"),
            ("alike", "stay, because others taught them, and hold words, a number or a name of what was erased"),
            ("shared", "share four words in a row with what was erased, perhaps by chance"),
            ("review", "were merged with what was erased, and may say it in other words"),
        ):
            if row[field]:
                note(f"{row['book']}: look at {shortened(', '.join(row[field]))}: they {means}.")
        for trace in row["traces"]:
            note(f"{row['book']}: trace ({trace['kind']}) in {trace['place']}: {trace['excerpt']}")


def _end(source: str, place: Place, rows: Sequence[dict[str, Any]], done: Done, dry_run: bool, *, known: bool) -> None:
    erased = sum(row["batches_erased"] for row in rows)
    prompts = {id for row in rows for id in row["prompts"]}
    traces = [(row["book"], trace) for row in rows for trace in row["traces"]]
    if dry_run:
        left = f" {many(len(traces), 'trace')} would be left." if traces else ""
        also = f", and lines of the prompts of {many(len(prompts), 'episode')}" if prompts else ""
        note(f"{many(erased, 'batch', 'batches')} would be erased{also}.{left} Nothing was done.")
        return
    if prompts:
        note(f"Lines of pages were erased from the recorded prompts of {many(len(prompts), 'episode')}.")
    if traces or done.episodes or any(row["alike"] for row in rows):
        raise PotstillError(_left(traces, rows, done.episodes, place))
    scanned = f"every row of {many(len(done.books), 'book')} and of the namespace's episodes was scanned"
    if known:
        own = f" outside of the episode '{shortened(source, 80)}'" if done.kept else ""
        note(f"Proof: {scanned}, and no trace is left{own}: {LOOKED_FOR} {NOT_OURS}")
    else:
        rows_of = many(len(done.books), "book")
        note(f"No batch was erased: every row of {rows_of} was scanned for this id, and none has it.")


def _left(
    traces: Sequence[tuple[str, Any]], rows: Sequence[dict[str, Any]], episodes: Sequence[StillThere], place: Place
) -> str:
    said = []
    if traces:
        names = ", ".join(dict.fromkeys(f"'{name}'" for name, _ in traces))
        said.append(
            f"{many(len(traces), 'trace')} left of what was forgotten, in {shortened(names)}: each is listed above, "
            f"and was taught by others{_not_asked(place)}"
        )
    elif alike := [id for row in rows for id in row["alike"]]:
        said.append(
            f"{many(len(alike), 'bullet')} left that may tell what was forgotten, as listed above, taught by others"
        )
    if traces or any(row["alike"] for row in rows):
        said += [f"To forget that too, type: {_forgetting(row, place)}" for row in rows if row["holding"]]
    if ids := [one.episode for one in episodes if not one.open]:
        said.append(
            f"{many(len(ids), 'episode')} said, saw or was asked what was forgotten, as listed above. To remove them "
            f"whole, type: {_removing(ids, place)}"
        )
    if ids := [_name(one, place) for one in episodes if one.open]:
        said.append(f"not ended yet, and to be removed so when they have: {shortened(', '.join(ids))}")
    return ". ".join(said)


def _forgetting(row: dict[str, Any], place: Place) -> str:
    """What erases the bullets by which a book still holds something."""
    named = " ".join(f"--bullet {id}" for id in row["holding"])
    return f"potstill playbook forget {named}{place._replace(book=row['book']).typed}"


def _name(one: StillThere, place: Place) -> str:
    """What the episode is called where it can be removed."""
    from potstill.record.identity import trajectory_id

    return trajectory_id(place.namespace, one.episode) if one.open else one.episode


def _episode(one: StillThere, place: Place) -> dict[str, Any]:
    trace = one.trace
    return {"episode": _name(one, place), "open": one.open, "kind": str(trace.kind), "excerpt": trace.excerpt}


def _removing(ids: Sequence[str], place: Place) -> str:
    where = [*place.store_words, *(["--namespace", place.namespace] if place.namespace != "default" else [])]
    return f"potstill trajectories rm {shlex.join([*ids, *where])}"


def _not_asked(place: Place) -> str:
    return "" if place.book is None else f" or stands outside of --book {shlex.quote(place.book)}"
