"""How a model wants to be asked: fields that it refuses, and how it calls the limit of tokens.

What it knows: what the settings say of an upstream and its models, what their refusals have taught, and which fields of
a request that concerns. What it does not do: send anything, or read a request beyond the names of its fields.

Recent models refuse what every model took: Claude since Opus 4.7 and OpenAI's reasoning models ``temperature`` and
``top_p``, OpenAI's ``max_tokens``; small servers do not know ``stream_options``. A refusal that names such a field is
learned, once for an upstream's model, and the request sent again without. Only where that is harmless: in questions to
the student (``SAMPLING``), and for fields that the gateway put in itself (``PUT_IN``). What a client set for the
teacher stays, and the client gets the upstream's own error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable

import msgspec

from potstill.errors import NOT_JSON
from potstill.serve import settings as told
from potstill.serve.clients.problems import CHAT
from potstill.types import Struct
from potstill.wire.openai_chat import decode_error

NAMES = ("max_tokens", "max_completion_tokens")
PUT_IN = frozenset({"stream_options", *NAMES})
"""Fields that the gateway adds to a request, or chooses the name of."""
SAMPLING = PUT_IN | {"temperature", "top_p", "top_k", "min_p", "seed", "n", "logprobs", "top_logprobs"}
"""Without them a student's samples are drawn otherwise; what is asked and what may be answered stays the same."""
NEEDED = frozenset({"model", "messages", "input", "stream"})
"""Fields without which there is no request."""
REFUSED = (400, 422)
MOST = 1000
"""Models of one upstream that anything is kept of: clients may make names up."""

_REFUSAL = re.compile(
    r"unsupported|not.{0,20}support|unrecogni[sz]ed|unknown|unexpected|deprecated|extra (inputs|fields)|cannot both"
    r"|not (permitted|allowed|available)|only the default|additional propert|no longer",
    re.IGNORECASE,
)
_log = logging.getLogger("potstill.gateway")


class Shape(Struct, frozen=True):
    """``max_tokens_field``: None for whatever it is called already."""

    omit: frozenset[str] = frozenset()
    max_tokens_field: str | None = None


SHAPELESS = Shape()


class Shapes:
    """What is known of one upstream's models."""

    def __init__(self, upstream: told.Upstream) -> None:
        self._upstream = upstream
        self._learned: dict[str, frozenset[str]] = {}

    def of(self, model: told.Model, learned: Collection[str] = ()) -> Shape:
        """What the settings say, and of what was learned the fields in ``learned``."""
        refused = self._learned.get(model.model, frozenset()) if learned else frozenset()
        field: str | None = model.max_tokens_field or self._upstream.max_tokens_field
        if not (refused or field or model.omit or self._upstream.omit):
            return SHAPELESS
        omit = frozenset((*self._upstream.omit, *model.omit))
        for name in refused & frozenset(learned):
            if name in NAMES:
                field = _other(name)
            else:
                omit |= {name}
        return Shape(omit, field)

    def learn(self, model: told.Model, status: int, body: bytes, sent: bytes, may: Collection[str]) -> bool:
        """Whether a refusal names a field of the request ``sent`` that may be left out, or called otherwise, from now
        on: the same request can be sent again then."""
        if status not in REFUSED:
            return False
        name = refused_field(body, [field for field in may if field in _fields(sent)])
        known = self._learned.get(model.model, frozenset())
        if name is None or (name in NAMES and (self._upstream.dialect != CHAT or _other(name) in known)):
            return False
        if name in known:  # another request taught it while this one was under way
            return True
        if model.model not in self._learned and len(self._learned) >= MOST:
            return False
        self._learned[model.model] = known | {name}
        _log.warning(
            "The model '%s' of the upstream '%s' refuses '%s': it is asked otherwise now. Settings that say so: %s",
            model.model,
            self._upstream.name,
            name,
            f'max_tokens_field = "{_other(name)}"' if name in NAMES else f'omit = ["{name}"]',
        )
        return True


def refused_field(body: bytes, sent: Iterable[str]) -> str | None:
    """Which of the fields ``sent`` an error says that the model does not take.

    >>> error = b'{"error":{"message":"Unsupported parameter: \\'max_tokens\\' is not supported with this model.'
    >>> refused_field(error + b' Use \\'max_completion_tokens\\' instead.","param":"max_tokens"}}', ["n", "max_tokens"])
    'max_tokens'
    """
    error = decode_error(body, max_chars=2000)
    if not _REFUSAL.search(f"{error.message} {error.code} {error.kind}"):
        return None
    names = sorted(sent, key=len, reverse=True)
    if error.param.partition(".")[0] in names:
        return error.param.partition(".")[0]
    found = [(match.start(), name) for name in names if (match := _mention(name).search(error.message))]
    if not found:
        return None
    # Of several, "temperature and top_p cannot both be specified" wants the last to go; else the first is meant.
    return (max(found) if "both" in error.message else min(found))[1]


def _mention(name: str) -> re.Pattern[str]:
    """A single letter counts only in quotes."""
    return re.compile(rf"(?<!\w){name}(?!\w)" if len(name) > 1 else rf"['\"`]{name}['\"`]")


def _other(name: str) -> str:
    return NAMES[1 - NAMES.index(name)]


def shaped(body: bytes, shape: Shape) -> bytes:
    """The request without what is to be left out; as it came where that is nothing."""
    names = shape.omit | ({*NAMES} - {shape.max_tokens_field} if shape.max_tokens_field else set())
    if not any(name.encode() in body for name in names):
        return body
    members = _fields(body)
    if not names & members.keys():
        return body
    limit = next((members[name] for name in (shape.max_tokens_field, *NAMES) if name in members), None)
    kept = {name: value for name, value in members.items() if name not in names}
    if shape.max_tokens_field is not None and limit is not None and shape.max_tokens_field not in shape.omit:
        kept[shape.max_tokens_field] = limit
    return msgspec.json.encode(kept)


def _fields(body: bytes) -> dict[str, msgspec.Raw]:
    """Empty for what is no JSON object."""
    try:
        return _members.decode(body)
    except NOT_JSON:
        return {}


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
