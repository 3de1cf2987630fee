"""What every importer gives: single model calls, or whole attempts at a task, in one shape.

What it knows: the shape, and what a value may be. What it does not do: read files (``reader.py``), know formats
(``formats/``), or guess: what a log does not say is ``None``, never zero.

Texts are kept as hashes and sizes, with a short preview for the report: a million calls must fit into memory, and an
audit has no need of what was said.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from potstill.types import Usage


class Source(NamedTuple):
    """Where a record stands: the file as it was named, and its line (in whole JSON documents: its element), from 1."""

    file: str
    line: int


class Problem(NamedTuple):
    """Something wrong with a record that was understood otherwise. ``kind`` is one of ``PROBLEMS``."""

    kind: str
    detail: str


PROBLEMS = {
    "bad_number": "a number that is negative, not finite, larger than any can be, or no number; it counts as unknown",
    "bad_value": "a field with a value that its format does not allow; it counts as unknown",
    "bad_usage": "token counts that contradict each other; they count as unknown",
}


class LogCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One billed request to a model, as a log tells it."""

    model: str
    provider: str | None = None
    run: str = ""
    episode_id: str | None = None
    """The session, trace or conversation that the log names. ``None``: to be found by ``record.stitch``."""
    task_id: str | None = None
    call_id: str | None = None
    """The log's own id of this request: the same again is the same call."""
    started_at: float | None = None
    """Unix seconds."""
    latency_s: float | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    """What the log itself says that the call cost."""
    service: str = "standard"
    """Service level of the price: ``standard`` or ``batch``."""
    error: str | None = None
    roles: str = ""
    """One letter for each message of the prompt: ``s`` system, ``u`` user, ``a`` assistant, ``t`` tool."""
    sizes: tuple[int, ...] = ()
    """Characters of each message of the prompt."""
    prefixes: tuple[int, ...] = ()
    """Hash (64 bits) of the conversation up to and including each message of the prompt."""
    contents: tuple[int, ...] = ()
    """Hash (32 bits) of what each message of the prompt says, wherever it stands and whatever ids it carries."""
    after: int | None = None
    """Hash of the conversation with this call's answer behind the prompt: the prefix of the episode's next call."""
    tools: tuple[int, int] = (0, 0)
    """Hash and characters of the definitions of tools that were sent."""
    tool_calls: tuple[tuple[str, int], ...] = ()
    """The tools that the answer calls: name, and hash of the normalised arguments."""
    answer_characters: int = 0
    prompt_preview: str = ""
    """The start of the prompt's last message (``PREVIEW`` characters)."""
    answer_preview: str = ""
    answerer: str | None = None
    """Where potstill recorded it: ``teacher``, ``student``, ..."""
    votes: tuple[str, ...] = ()
    """What the student's samples wanted at this step, and why it was decided as it was."""
    demonstrations: tuple[str, ...] = ()
    """Which demonstrations the step was shown."""
    source: Source = Source("", 0)
    problems: tuple[Problem, ...] = ()


PREVIEW = 240


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt at a task: a row of the generic format, or an episode that a log tells as a whole."""

    task_id: str
    model: str
    run: str = ""
    episode_id: str | None = None
    sample: int | None = None
    """Number of this attempt among those of the same model at the same task."""
    step: int | None = None
    """Where the row is a single decision within a task: its number."""
    answer: str | None = None
    success: bool | None = None
    error: str | None = None
    """The infrastructure broke (a refused key, a crash): neither success nor honest failure."""
    cost_usd: float | None = None
    input_tokens: int | None = None
    """All of the input, cached parts included."""
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    started_at: float | None = None
    """Unix seconds."""
    harness: str | None = None
    user_model: str | None = None
    """The model that played the user: attempts with different ones cannot be compared."""
    features: tuple[tuple[str, float], ...] = ()
    """Signals for calibration: ``logprob_margin``, ``similarity``, ``repeated``, ``no_progress``, ``invalid``."""
    step_type: str | None = None
    calls: tuple[LogCall, ...] = ()
    """The model's calls, where the log holds them. An empty tuple says nothing."""
    source: Source = Source("", 0)
    problems: tuple[Problem, ...] = ()


Record = LogCall | Attempt
