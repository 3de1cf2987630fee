"""Contents of the responses dialect: the texts, images and refusals inside a message or a tool's output.

What it knows: the types of content, data URLs, cache breakpoints. What only this dialect has (files, audio) is an
``Opaque`` part of kind ``content:TYPE``; citations are an ``Opaque`` hint behind the text that they belong to.
What it does not do: items (``responses_items``), fetching anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.errors import BadRequest, Untranslatable
from potstill.wire.neutral import Image, Opaque, Part, Refusal, Text, Turn
from potstill.wire.reading import Fields

NAME = "openai-responses"
CONTENT = "content:"
"""Kind of an opaque content: this and its type."""
ANNOTATION = "annotation"
"""Kind of the hint that holds one annotation of the text before it."""

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_DATA_URL = re.compile(r"data:(?P<media>[^;,]*)(?:;[^;,]*)*?;base64,(?P<data>.*)", re.DOTALL)


def decode_contents(fields: Fields, key: str) -> list[Part]:
    """The parts of ``content`` or ``output``: a text, or a list of contents."""
    value = fields.value.get(key)
    if value is None:
        return []
    if isinstance(value, str):
        return [Text(text=value)]
    parts: list[Part] = []
    for index, content in enumerate(fields.items(key)):
        where = f"{fields.path(key)}[{index}]"
        if isinstance(content, str):
            parts.append(Text(text=content))
        else:
            parts.extend(_content(Fields(content, where, fields.fault)))
    return parts


def _content(content: Fields) -> list[Part]:
    kind = content.need("type")
    if kind in _TEXTS:
        annotations = [
            Opaque(dialect=NAME, kind=ANNOTATION, value=value, hint=True)
            for value in content.items("annotations")
            if isinstance(value, dict)
        ]
        return [Text(text=content.need("text"), cache=_cache(content)), *annotations]
    if kind == "refusal":
        return [Refusal(text=content.need("refusal"))]
    if kind == "input_image" and content.value.get("file_id") is None:
        return [_image(content)]
    return [Opaque(dialect=NAME, kind=CONTENT + kind, value=content.value)]


def _image(content: Fields) -> Image:
    url = content.need("image_url")
    detail, cache = content.text("detail"), _cache(content)
    detail = None if detail == "auto" else detail
    inline = _DATA_URL.fullmatch(url)
    if inline is None:
        return Image(url=url, detail=detail, cache=cache)
    return Image(data=inline["data"], media_type=inline["media"] or None, detail=detail, cache=cache)


def _cache(content: Fields) -> dict[str, Any] | None:
    """A breakpoint, in the words of ``neutral.Text.cache``: 12 hours become the longest time there, one hour."""
    mark = content.map("prompt_cache_breakpoint")
    if mark is None:
        return None
    return {"type": "ephemeral", "ttl": "1h"} if mark.get("ttl") == "12h" else {"type": "ephemeral"}


def encode_contents(parts: Iterable[Part], where: str, *, answer: bool, own: bool = True) -> list[dict[str, Any]]:
    """Contents of a message or a tool's output.

    ``answer``: texts are the model's. ``own``: the parts came in this dialect, so its cache marks are its own.
    Raises ``Untranslatable`` for what only another dialect can say.
    """
    contents: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case Text():
                kind = {"type": "output_text", "annotations": []} if answer else {"type": "input_text"}
                contents.append(kind | {"text": part.text} | _breakpoint(part.cache, own))
            case Refusal():
                contents.append({"type": "refusal", "refusal": part.text})
            case Image():
                contents.append(_encode_image(part, where) | _breakpoint(part.cache, own))
            case Opaque():
                _encode_opaque(part, contents, where)
            case _:
                raise BadRequest(f"{where} cannot hold a part of type '{type(part).__name__}'.")
    return contents


def _encode_opaque(part: Opaque, contents: list[dict[str, Any]], where: str) -> None:
    if part.dialect == NAME and part.kind.startswith(CONTENT):
        contents.append(part.value)
    elif part.dialect == NAME and part.kind == ANNOTATION:
        if contents and contents[-1]["type"] == "output_text":
            contents[-1]["annotations"] = [*contents[-1]["annotations"], part.value]
    elif not part.hint:
        raise unknown_part(part, where)


def _encode_image(image: Image, where: str) -> dict[str, Any]:
    if image.url is None and image.data is None:
        raise BadRequest(f"{where} holds an image with neither data nor an address.")
    url = image.url or f"data:{image.media_type or 'image/png'};base64,{image.data}"
    return {"type": "input_image", "image_url": url, "detail": image.detail or "auto"}


def _breakpoint(cache: dict[str, Any] | None, own: bool) -> dict[str, Any]:
    """Marks of other dialects are left out: models that know no breakpoints refuse the field."""
    if cache is None or not own:
        return {}
    return {"prompt_cache_breakpoint": {"mode": "explicit"} | ({"ttl": "12h"} if cache.get("ttl") == "1h" else {})}


def plain(contents: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One bare text as a text, which every server takes; anything else as contents."""
    only = contents[0] if len(contents) == 1 else {}
    bare = "text" in only and only.keys() <= {"type", "text", "annotations"} and not only.get("annotations")
    return str(only["text"]) if bare else list(contents)


def unknown_part(part: Opaque, where: str) -> Untranslatable:
    return Untranslatable(
        f"{where} holds a part of kind '{part.kind}', which only the dialect '{part.dialect}' knows; '{NAME}' cannot "
        f"say it. Leave it out, or use a model behind '{part.dialect}'."
    )


def place(turn: Turn, index: int) -> str:
    return f"message {index} ({turn.role})"
