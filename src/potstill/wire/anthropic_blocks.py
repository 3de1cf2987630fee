"""Anthropic's content blocks to neutral parts and back: what messages, answers and system texts are made of.

What it knows: each block's fields; what only Anthropic has (documents, server-side tools, search results, containers)
stays an ``Opaque`` part; citations are an ``Opaque`` hint behind the text that they belong to.
What it does not do: messages and roles (``anthropic_request``), streams (``anthropic_stream``).

Three things that an upstream of Anthropic refuses, and that a history from another upstream may hold:

- Thinking without Anthropic's signature. A client is given it with the signature ``UNSIGNED``; read back, the part has
  no signature, and a request to an upstream leaves it out. A body that holds ``UNSIGNED`` must not go to Anthropic as
  it came.
- Ids of calls outside ``[a-zA-Z0-9_-]``: written as the same word plus a hash, alike in call and result (``call_id``).
- Arguments that are no JSON object: written as ``{"INVALID_JSON": "..."}``, the form that Anthropic's guide to
  fine-grained tool streaming gives.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import msgspec

from potstill.errors import NOT_JSON, Untranslatable
from potstill.wire.neutral import Image, Opaque, Part, Refusal, Text, Thinking, ToolOutput, ToolUse
from potstill.wire.reading import Fields, said

NAME = "anthropic"
UNSIGNED = "potstill-unsigned"
"""Signature of thinking that Anthropic did not write."""

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,(.*)", re.DOTALL)
_MAGIC = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lG": "image/gif", "UklG": "image/webp"}


class Malformed(ValueError):
    """What is wrong, and where; the dialect makes a ``BadRequest`` or a ``BadResponse`` of it."""


# --- reading JSON -----------------------------------------------------------------------------------------------------


def fields_of(value: Any, where: str) -> Fields:
    return Fields(value, where, Malformed)


# --- blocks to parts --------------------------------------------------------------------------------------------------


def parts_of(content: Any, where: str) -> tuple[Part, ...]:
    """The parts of ``content``: a text, a list of blocks, or nothing. Raises ``Malformed``."""
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(text=content),)
    if not isinstance(content, list):
        raise Malformed(f"'{where}' must be a text or a list of blocks, not {said(content)}.")
    return tuple(part for index, block in enumerate(content) for part in block_parts(block, f"{where}.{index}"))


def block_parts(value: Any, where: str) -> tuple[Part, ...]:
    """The parts of one block: one, or a text with its citations. Raises ``Malformed``."""
    block = fields_of(value, where)
    match block.need("type"):
        case "text":
            return _text(block)
        case "thinking":
            signature = block.text("signature") or None
            return (
                Thinking(text=block.text("thinking") or "", signature=None if signature == UNSIGNED else signature),
            )
        case "redacted_thinking":
            return (Thinking(redacted=block.need("data")),)
        case "image":
            return (_image(block),)
        case "tool_use":
            return (_tool_use(block),)
        case "tool_result":
            return (_tool_result(block),)
    return (opaque(block.value),)


def opaque(block: dict[str, Any]) -> Opaque:
    return Opaque(dialect=NAME, kind=str(block.get("type", "")), value=block)


def citations(values: list[Any]) -> Opaque:
    return Opaque(dialect=NAME, kind="citations", value={"citations": values}, hint=True)


def _text(block: Fields) -> tuple[Part, ...]:
    text = Text(text=block.need("text"), cache=block.map("cache_control"))
    cited = block.items("citations")
    return (text, citations(cited)) if cited else (text,)


def _image(block: Fields) -> Image | Opaque:
    source, cache = block.need_inner("source"), block.map("cache_control")
    kind = source.value.get("type")
    if block.value.get("transformations"):
        return opaque(block.value)
    if kind == "base64":
        return Image(data=source.need("data"), media_type=source.text("media_type"), cache=cache)
    return Image(url=source.need("url"), cache=cache) if kind == "url" else opaque(block.value)


def _tool_use(block: Fields) -> ToolUse | Opaque:
    """A call that code on Anthropic's side made, or one of a set of tools, is known to Anthropic only."""
    caller = block.map("caller") or {}
    if block.value.get("toolset_name") or caller.get("type", "direct") != "direct":
        return opaque(block.value)
    return ToolUse(
        id=block.text("id") or "",
        name=block.need("name"),
        arguments=_arguments(block.value.get("input")),
        cache=block.map("cache_control"),
    )


def _arguments(value: Any) -> str:
    """Servers that copy the dialect write the arguments as text, or nothing where there are none."""
    if value is None or value == "":
        return "{}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _tool_result(block: Fields) -> ToolOutput | Opaque:
    content = block.value.get("content")
    kinds = {inner.get("type") for inner in content if isinstance(inner, dict)} if isinstance(content, list) else set()
    if not kinds <= {"text", "image"} or block.value.get("toolset_name"):
        return opaque(block.value)
    parts = parts_of(content, block.path("content"))
    shown = tuple(part for part in parts if isinstance(part, Text | Image))
    if len(shown) < len(parts):
        return opaque(block.value)
    return ToolOutput(
        call_id=block.need("tool_use_id"),
        parts=shown,
        is_error=block.flag("is_error") or False,
        cache=block.map("cache_control"),
    )


# --- parts to blocks --------------------------------------------------------------------------------------------------


def blocks_of(parts: Iterable[Part], where: str, *, own: bool, answer: bool = False) -> list[dict[str, Any]]:
    """The blocks of ``parts``; empty texts, which Anthropic refuses, are left out.

    ``own``: the parts came from Anthropic's dialect, so that signatures are Anthropic's. ``answer``: for a client, who
    may see thinking that Anthropic did not sign. Raises ``Untranslatable`` for what only another dialect can say.
    """
    blocks: list[dict[str, Any]] = []
    block: dict[str, Any] | None = None
    for part in parts:
        if is_citations(part):
            if block is not None and block["type"] == "text":
                block |= part.value
            continue
        block = _block(part, where, own, answer)
        if block is not None:
            blocks.append(block)
    return blocks


def is_citations(part: Part) -> TypeGuard[Opaque]:
    return isinstance(part, Opaque) and part.dialect == NAME and part.kind == "citations"


def _block(part: Part, where: str, own: bool, answer: bool) -> dict[str, Any] | None:
    match part:
        case Text(text=text) | Refusal(text=text):
            cache = part.cache if isinstance(part, Text) else None
            return {"type": "text", "text": text} | _cache(cache) if text else None
        case Thinking():
            return thinking_block(part, own=own, answer=answer)
        case Image():
            return {"type": "image", "source": _source(part, where)} | _cache(part.cache)
        case ToolUse():
            call = {"type": "tool_use", "id": call_id(part.id), "name": part.name, "input": tool_input(part.arguments)}
            return call | _cache(part.cache)
        case ToolOutput():
            return _tool_result_block(part, where, own)
        case Opaque():
            return opaque_block(part, where)


def thinking_block(part: Thinking, *, own: bool, answer: bool) -> dict[str, Any] | None:
    """None where the receiver may not see it: see the module's text. A thought with an id is not Anthropic's."""
    own = own and part.id is None
    if own and part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if own and part.signature:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    if answer and part.text:
        return {"type": "thinking", "thinking": part.text, "signature": UNSIGNED}
    return None


def opaque_block(part: Opaque, where: str) -> dict[str, Any] | None:
    if part.dialect == NAME:
        return part.value
    if part.hint:
        return None
    raise Untranslatable(
        f"{where} holds a part of kind '{part.kind}', which only the dialect '{part.dialect}' knows: the dialect "
        f"'{NAME}' of the upstream or client cannot say it. Leave it out, or use a model behind '{part.dialect}'."
    )


def _tool_result_block(part: ToolOutput, where: str, own: bool) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id(part.call_id)}
    content = blocks_of(part.parts, where, own=own)
    if content:
        block["content"] = plain(content)
    if part.is_error:
        block["is_error"] = True
    return block | _cache(part.cache)


def _source(image: Image, where: str) -> dict[str, Any]:
    """By base64 or by address; an address that holds the data itself (``data:``) is unpacked."""
    data, media_type = image.data, image.media_type
    if data is None and image.url is not None:
        inline = _DATA_URL.fullmatch(image.url)
        if inline is None:
            return {"type": "url", "url": image.url}
        media_type, data = inline[1] or media_type, inline[2]
    if data is None:
        raise Untranslatable(f"{where} holds an image with neither data nor an address")
    media_type = media_type or next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if media_type is None:
        raise Untranslatable(f"{where} holds an image without a media type: Anthropic's dialect needs one")
    return {"type": "base64", "media_type": media_type, "data": data}


def call_id(value: str) -> str:
    """An id that Anthropic accepts: as it is, or with other characters replaced and a hash against collisions.

    >>> call_id("toolu_01"), call_id("functions.bash:0")
    ('toolu_01', 'functions_bash_0_8497fe9c')
    """
    if _ID.fullmatch(value):
        return value
    return re.sub(r"[^a-zA-Z0-9_-]", "_", value) + "_" + hashlib.sha256(value.encode()).hexdigest()[:8]


def tool_input(arguments: str) -> msgspec.Raw | dict[str, Any]:
    """Raw arguments as the object that a ``tool_use`` block holds."""
    if not arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(arguments)
    except NOT_JSON:
        value = None
    return msgspec.Raw(arguments.encode()) if isinstance(value, dict) else {"INVALID_JSON": arguments}


def plain(blocks: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One bare text as a text, anything else as blocks."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    return list(blocks)


def _cache(cache: dict[str, Any] | None) -> dict[str, Any]:
    return {} if cache is None else {"cache_control": cache}
