"""Pages of episodes, newest first: those that are still in the journal, then those that became trajectories.

What it knows: both lists' order, and a cursor that goes on where a page ended whatever was added meanwhile. What it
does not do: read an episode's content. All of it blocks.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from potstill.serve.admin.seams import AdminStore
from potstill.serve.clients.json_http import Refusal
from potstill.serve.tenants.key_rows import moment
from potstill.trajectories.exchange import OpenEpisode
from potstill.trajectories.queries import Summary
from potstill.types import Struct

CHUNK = 200
CHUNKS = 25
"""So many are looked through for one page, where filters let few pass; then the page ends early, with a cursor."""

Cursor = tuple[Literal["open"], float, str, str] | tuple[Literal["ended"], int]


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a page."""

    tenant: str | None = None
    state: Literal["open", "ended"] | None = None
    success: Literal["true", "false", "unknown"] | None = None
    environment: str | None = None
    task: str | None = None
    since: float | None = None
    """Unix seconds at which it began, inclusive."""
    until: float | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(max_length=2000)] | None = None


class EpisodePages:
    def __init__(self, store: AdminStore) -> None:
        self._store = store

    def page(self, wanted: Wanted) -> dict[str, Any]:
        """``episodes`` and ``next``, a cursor or None. Raises ``Refusal`` for a cursor that is none."""
        cursor = _cursor(wanted.cursor)
        rows: list[dict[str, Any]] = []
        if cursor is None or cursor[0] == "open":
            found = self._open(wanted, cursor)
            rows = [_open_row(one) for one in found[: wanted.limit]]
            if len(found) > wanted.limit:
                last = found[wanted.limit - 1]
                return {"episodes": rows, "next": _text(("open", last.last_at, last.namespace, last.episode_id))}
            cursor = None
        if wanted.state == "open":
            return {"episodes": rows, "next": None}
        before = None if cursor is None else int(cursor[1])
        if len(rows) == wanted.limit:
            return {"episodes": rows, "next": _text(("ended", 2**62))}
        ended, following = self._ended(wanted, wanted.limit - len(rows), before)
        return {"episodes": rows + [_ended_row(one) for one in ended], "next": following}

    def _open(self, wanted: Wanted, cursor: Cursor | None) -> list[OpenEpisode]:
        if wanted.state == "ended" or wanted.environment or wanted.task or wanted.success in ("true", "false"):
            return []
        found = [
            one
            for one in self._store.open_episodes(wanted.tenant)
            if _between(one.first_at, wanted) and not (wanted.success == "unknown" and one.outcome_known)
        ]
        found.sort(key=_place, reverse=True)
        if cursor is not None and cursor[0] == "open":
            found = [one for one in found if _place(one) < cursor[1:]]
        return found

    def _ended(self, wanted: Wanted, limit: int, before: int | None) -> tuple[list[Summary], str | None]:
        success = {"true": True, "false": False}.get(wanted.success or "")
        found: list[Summary] = []
        for _ in range(CHUNKS):
            chunk = self._store.summaries(
                namespace=wanted.tenant,
                environment=wanted.environment,
                task_id=wanted.task,
                success=success,
                since=wanted.since,
                until=wanted.until,
                newest_first=True,
                before_seq=before,
                limit=CHUNK,
            )
            for one in chunk:
                if wanted.success == "unknown" and one.success is not None:
                    continue
                if len(found) == limit:
                    return found, _text(("ended", found[-1].seq))
                found.append(one)
            if len(chunk) < CHUNK:
                return found, None
            before = chunk[-1].seq
        return found, _text(("ended", before or 0))


def _between(at: float, wanted: Wanted) -> bool:
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)


def _place(one: OpenEpisode) -> tuple[float, str, str]:
    return one.last_at, one.namespace, one.episode_id


def _open_row(one: OpenEpisode) -> dict[str, Any]:
    return {
        "state": "open",
        "tenant": one.namespace,
        "episode": one.episode_id,
        "exchanges": one.exchanges,
        "started_at": moment(one.first_at),
        "last_at": moment(one.last_at),
        "outcome_known": one.outcome_known,
    }


def _ended_row(one: Summary) -> dict[str, Any]:
    return {
        "state": "ended",
        "tenant": one.namespace,
        "episode": one.id,
        "environment": one.environment,
        "task": one.task_id,
        "arm": one.arm,
        "kind": one.kind,
        "run": one.run_id,
        "steps": one.steps,
        "started_at": moment(one.started_at),
        "success": one.success,
        "error": one.error,
    }


def _text(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    try:
        raw = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if raw[0] == "open":
            return ("open", *msgspec.convert(raw[1:], tuple[float, str, str]))
        if raw[0] == "ended":
            return ("ended", msgspec.convert(raw[1:], tuple[Annotated[int, Meta(ge=0, le=2**62)]])[0])
    except (msgspec.MsgspecError, binascii.Error, ValueError, TypeError, LookupError, RecursionError):
        pass
    raise Refusal(400, "invalid_request", "This cursor is not one of ours. Take 'next' of the page before.")
