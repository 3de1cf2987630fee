"""The generic format: one attempt a line, as JSON lines or CSV, described in ``docs/reference/attempts-format.md``.

What it knows: the columns and what may stand in them. A row in which all is well is decoded in one go; any other is
looked at column by column, and the columns at fault are named. What it does not do: accept other names for columns (it
says which one was probably meant), or invent values: what cannot be understood is unknown and a ``Problem``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import msgspec

from potstill.logs.formats import cells
from potstill.logs.formats.base import LogFormat, Skipped
from potstill.logs.records import Attempt, Problem, Source

FEATURES = ("logprob_margin", "similarity", "repeated", "no_progress", "invalid")
_TOKENS = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens")
_TEXTS = ("run", "episode_id", "answer", "step_type", "harness", "user_model")
_READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "sample": (cells.count, "bad_number"),
    "step": (cells.count, "bad_number"),
    "cost_usd": (cells.amount, "bad_number"),
    **dict.fromkeys(_TOKENS, (cells.tokens, "bad_number")),
    "latency_s": (cells.amount, "bad_number"),
    "started_at": (cells.unix_seconds, "bad_value"),
}
REQUIRED = ("task_id", "model")
COLUMNS = frozenset((*REQUIRED, *_TEXTS, "success", "error", *_READERS, *FEATURES))
_SHOWN = 60
"""Characters of a bad value that are quoted."""


_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=cells.MOST_TOKENS)]
_Amount = Annotated[float, msgspec.Meta(ge=0, le=cells.MOST_AMOUNT)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class _Row(msgspec.Struct):
    """A row in which every value is as it should be."""

    task_id: _Text | int
    model: _Text
    run: str | None = None
    episode_id: str | None = None
    sample: _Count | None = None
    step: _Count | None = None
    answer: str | None = None
    success: bool | int | None = None
    error: str | bool | None = None
    cost_usd: _Amount | None = None
    input_tokens: _Tokens | None = None
    cached_input_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    latency_s: _Amount | None = None
    started_at: _Seconds | str | None = None
    step_type: str | None = None
    harness: str | None = None
    user_model: str | None = None
    logprob_margin: float | bool | None = None
    similarity: float | bool | None = None
    repeated: float | bool | None = None
    no_progress: float | bool | None = None
    invalid: float | bool | None = None


_decode_row = msgspec.json.Decoder(_Row).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_SUCCESS: dict[Any, bool | None] = {None: None, False: False, True: True}


class Generic:
    """One attempt a line."""

    name = "attempts"
    arrays: tuple[str, ...] = ("", "attempts")

    def fits(self, row: Mapping[str, Any]) -> bool:
        return "task_id" in row and "model" in row

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        """One attempt. Raises ``Skipped`` for a row without ``task_id`` or ``model``."""
        try:
            found = _decode_row(row)
        except (msgspec.ValidationError, UnicodeDecodeError):
            return (_patient(_decode_any(row), source),)
        return (_swift(found, source) or _patient(_decode_any(row), source),)


def _swift(row: _Row, source: Source) -> Attempt | None:
    """The attempt, if nothing in the row needs a second look."""
    started = row.started_at
    if (
        row.error
        or row.success not in _SUCCESS
        or row.model.isspace()
        or not _partitioned(row.input_tokens, row.cached_input_tokens, row.cache_write_tokens)
    ):
        return None
    task_id = row.task_id
    if type(task_id) is not str:
        task_id = str(task_id)
    elif task_id.isspace():
        return None
    if isinstance(started, str):
        try:
            started = cells.iso_seconds(started)
        except ValueError:
            return None
    return Attempt(
        task_id=task_id,
        model=row.model,
        run=row.run or "",
        episode_id=row.episode_id or None,
        sample=row.sample,
        step=row.step,
        answer=row.answer,
        success=_SUCCESS[row.success],
        cost_usd=row.cost_usd,
        input_tokens=row.input_tokens,
        cached_input_tokens=row.cached_input_tokens,
        cache_write_tokens=row.cache_write_tokens,
        output_tokens=row.output_tokens,
        latency_s=row.latency_s,
        started_at=started,
        harness=row.harness or None,
        user_model=row.user_model or None,
        features=_features(row),
        step_type=row.step_type or None,
        source=source,
    )


def _partitioned(total: int | None, cached: int | None, written: int | None) -> bool:
    """True if the parts fit into the whole, as far as they are known."""
    return total is None or (cached or 0) + (written or 0) <= total


def _features(row: _Row) -> tuple[tuple[str, float], ...]:
    if (
        row.logprob_margin is None
        and row.similarity is None
        and row.repeated is None
        and row.no_progress is None
        and row.invalid is None
    ):
        return ()
    return tuple((name, float(value)) for name in FEATURES if (value := getattr(row, name)) is not None)


# --- a row that needs patience --------------------------------------------------------------------------------------


def _patient(row: Mapping[str, Any], source: Source) -> Attempt:
    """The attempt of a row with unusual values, with a problem for each that cannot be understood."""
    problems: list[Problem] = []
    identity = {name: _identity(row, name) for name in REQUIRED}
    texts = {name: _text_or_none(row, name) for name in _TEXTS}
    texts["run"] = texts["run"] or ""
    numbers = {name: _read(row, name, read, kind, problems) for name, (read, kind) in _READERS.items()}
    _check_tokens(numbers, problems)
    features = tuple(
        (name, value)
        for name in FEATURES
        if (value := _read(row, name, cells.signal, "bad_number", problems)) is not None
    )
    fields: dict[str, Any] = {**identity, **texts, **numbers}
    success = _read(row, "success", cells.outcome, "bad_value", problems)
    error = cells.failure(row.get("error"))
    return Attempt(**fields, success=success, error=error, features=features, source=source, problems=tuple(problems))


def _identity(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, dict | list | bool):
        raise Skipped(f"no {name}", f"{name} is {cells.text(value)[:_SHOWN]}; it has to be a text")
    if value is not None and (told := cells.text(value)).strip():
        return told
    raise Skipped(f"no {name}", "" if name in row else near_miss(row, name))


def _text_or_none(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    told = cells.text(value)
    return told if told or name == "answer" else None


def _read(row: Mapping[str, Any], name: str, read: Callable[[Any], Any], kind: str, problems: list[Problem]) -> Any:
    value = row.get(name)
    if cells.is_null(value):
        return None
    try:
        return read(value)
    except (ValueError, OverflowError):
        shown = value if isinstance(value, str) else cells.text(value)
        problems.append(Problem(kind, f"{name} is {shown[:_SHOWN]}"))
        return None


def _check_tokens(numbers: dict[str, Any], problems: list[Problem]) -> None:
    total, cached, written = (numbers[name] for name in _TOKENS[:3])
    if not _partitioned(total, cached, written):
        detail = f"cached_input_tokens {cached or 0} and cache_write_tokens {written or 0} exceed input_tokens {total}"
        problems.append(Problem("bad_usage", detail))
        numbers.update(dict.fromkeys(_TOKENS))


# --- help for files that are nearly right ---------------------------------------------------------------------------


def near_miss(row: Mapping[str, Any], name: str) -> str:
    """Which of the row's columns was probably meant to be ``name``, in words; empty if none looks like it."""
    found = difflib.get_close_matches(name, [key for key in row if key not in COLUMNS], n=1, cutoff=0.6)
    return f"it has no '{name}', but '{found[0]}': name that column '{name}'" if found else ""


def unknown_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of these rows that the format does not have, in the order in which they appear."""
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in COLUMNS]


GENERIC = Generic()
FORMATS: tuple[LogFormat, ...] = (GENERIC,)
