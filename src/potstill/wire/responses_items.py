"""Items of the responses dialect (messages, calls, outputs, reasoning) to neutral parts and back.

What it knows: an assistant's turn is several items here and one message elsewhere; which fields an item has beside its
text. What those say (ids, the phase of a message, several summaries) is an ``Opaque`` hint of kind ``item`` before the
parts of that item: kept within the dialect, left out elsewhere. Items that only this dialect has (built-in tools,
references) are ``Opaque`` parts that are no hint. What it does not do: requests and answers as a whole, streams.

Reasoning: OpenAI refuses items of reasoning with an id it never gave, or with encrypted content that is not its own,
but takes one with a summary and no id. So ids that potstill made (``OWN_IDS``) are dropped when they come back, and
Anthropic's proofs (signatures, redacted thinking) travel inside ``encrypted_content`` marked with ``FOREIGN``: the
client sends them back, they return to Anthropic as blocks of its own (an ``Opaque`` hint), and never go to OpenAI. A
body for which ``needs_rewriting`` is true must not go to an upstream as it came.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from potstill.errors import BadRequest, Untranslatable
from potstill.wire.neutral import Opaque, Part, Refusal, Text, Thinking, ToolOutput, ToolUse, Turn
from potstill.wire.reading import Fields
from potstill.wire.responses_content import (
    ANNOTATION,
    CONTENT,
    NAME,
    decode_contents,
    encode_contents,
    place,
    plain,
    unknown_part,
)

ITEM = "item"
"""Kind of the hint that holds an item's further fields."""
OWN_IDS = ("msg_potstill_", "fc_potstill_", "rs_potstill_")
FOREIGN = "potstill:anthropic:"
SIGNATURE = FOREIGN + "signature:"
REDACTED = FOREIGN + "redacted:"

_MESSAGE = frozenset({"type", "role", "content"})
_CALL = frozenset({"type", "call_id", "name", "arguments"})
_REASONING = frozenset({"type", "id", "summary", "content", "encrypted_content"})
_OUTPUT = frozenset({"type", "call_id", "output", "id", "status"})
_CLIENT_ITEMS = frozenset({"item_reference", "mcp_approval_response", "compaction_trigger", "additional_tools"})


def needs_rewriting(body: bytes) -> bool:
    """Whether a request holds ids or proofs that potstill made up, which a provider may refuse."""
    return any(prefix.encode() in body for prefix in (*OWN_IDS, SIGNATURE, REDACTED))


# --- items to turns ---------------------------------------------------------------------------------------------------


def decode_items(items: Sequence[Any], where: str, spelling: dict[str, str]) -> list[Turn]:
    """The turns that ``input`` is made of: neighbouring items of the assistant are one turn, outputs of tools too."""
    turns: list[Turn] = []
    for index, value in enumerate(items):
        item = Fields(value, f"{where}[{index}]")
        turn = _decode_item(item, spelling)
        if turns and turn.role in ("assistant", "tool") and turns[-1].role == turn.role:
            turns[-1] = msgspec.structs.replace(turns[-1], parts=(*turns[-1].parts, *turn.parts))
        else:
            turns.append(turn)
    return turns


def _decode_item(item: Fields, spelling: dict[str, str]) -> Turn:
    kind = item.text("type")
    if kind is None:
        kind = "message" if "role" in item.value else "item_reference"
    if kind == "message":
        return _message(item, spelling)
    if kind == "function_call_output":
        return _output(item)
    if kind.endswith("_output") or kind in _CLIENT_ITEMS:
        return Turn(role="user", parts=(Opaque(dialect=NAME, kind=kind, value=item.value),))
    return Turn(role="assistant", parts=tuple(decode_output_item(item, kind, keep_ids=True)))


def _message(item: Fields, spelling: dict[str, str]) -> Turn:
    role = item.need("role")
    if role in ("system", "developer"):
        if role == "developer":
            spelling["system"] = role
        return Turn(role="system", parts=tuple(decode_contents(item, "content")))
    if role == "user":
        return Turn(role="user", parts=tuple(decode_contents(item, "content")))
    if role == "assistant":
        return Turn(role="assistant", parts=tuple(decode_output_item(item, "message", keep_ids=True)))
    raise BadRequest(f"'{item.path('role')}' is '{role}'; allowed: user, assistant, system, developer.")


def _output(item: Fields) -> Turn:
    parts = decode_contents(item, "output") if item.value.get("output") else []
    shown = tuple(part for part in parts if not isinstance(part, Opaque | Refusal))
    if len(shown) < len(parts) or item.rest(_OUTPUT):
        return Turn(role="user", parts=(Opaque(dialect=NAME, kind="function_call_output", value=item.value),))
    failed = item.text("status") == "incomplete"
    return Turn(role="tool", parts=(ToolOutput(call_id=item.need("call_id"), parts=shown, is_error=failed),))  # type: ignore[arg-type]


def decode_output_item(item: Fields, kind: str, *, keep_ids: bool) -> Iterator[Part]:
    """The parts of one item that the model said. ``keep_ids``: in a request, where the provider may know them."""
    if kind == "message":
        yield from _hint(item, _MESSAGE, keep_ids)
        yield from decode_contents(item, "content")
    elif kind == "reasoning":
        yield from _reasoning(item)
    elif kind == "function_call" and item.value.get("namespace") is None:
        yield from _hint(item, _CALL, keep_ids)
        yield _call(item)
    else:
        yield Opaque(dialect=NAME, kind=kind, value=item.value)


def _hint(item: Fields, known: frozenset[str], keep_ids: bool) -> Iterator[Opaque]:
    """The fields beside ``known``. A status says something only where an id does (items that the provider keeps)."""
    rest = item.rest(known)
    name = rest.get("id")
    if not keep_ids or not isinstance(name, str) or not name or name.startswith(OWN_IDS):
        rest.pop("id", None)
        rest.pop("status", None)
    if rest:
        yield Opaque(dialect=NAME, kind=ITEM, value={"type": item.text("type") or "message"} | rest, hint=True)


def _call(item: Fields) -> ToolUse:
    arguments = item.value.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    call_id = item.text("call_id") or item.text("id")
    if not call_id:
        raise item.missing("call_id", "a text")
    return ToolUse(id=call_id, name=item.need("name"), arguments=arguments or "{}")


def _reasoning(item: Fields) -> Iterator[Part]:
    """One thought for an item. Its summaries and raw texts are joined by empty lines; several are kept in a hint."""
    parts = [part for key in ("summary", "content") for part in decode_contents(item, key)]
    texts = [part.text for part in parts if isinstance(part, Text)]
    name, proof = item.text("id") or None, item.text("encrypted_content") or None
    split = {key: item.value[key] for key in ("summary", "content") if item.value.get(key)}
    if len(texts) > 1 or "content" in split or item.rest(_REASONING):
        yield Opaque(dialect=NAME, kind=ITEM, value={"type": "reasoning"} | split | item.rest(_REASONING), hint=True)
    if proof is not None and proof.startswith(FOREIGN):
        yield from _anthropic_block("\n\n".join(texts), proof)
        proof = None
    name = None if name and name.startswith(OWN_IDS) else name
    if name or proof or texts or not item.value.get("encrypted_content"):
        yield Thinking(text="\n\n".join(texts), redacted=proof, id=name)


def _anthropic_block(text: str, proof: str) -> Iterator[Opaque]:
    if proof.startswith(SIGNATURE):
        block = {"type": "thinking", "thinking": text, "signature": proof.removeprefix(SIGNATURE)}
    elif proof.startswith(REDACTED):
        block = {"type": "redacted_thinking", "data": proof.removeprefix(REDACTED)}
    else:
        return
    yield Opaque(dialect="anthropic", kind=block["type"], value=block, hint=True)


# --- turns to items ---------------------------------------------------------------------------------------------------


def encode_turns(turns: Sequence[Turn], *, dialect: str, system: str) -> list[dict[str, Any]]:
    """The items of ``input``. ``dialect``: in which the request came. ``system``: the word for that role."""
    return [
        item for index, turn in enumerate(turns) for item in _encode_turn(turn, place(turn, index), dialect, system)
    ]


def _encode_turn(turn: Turn, where: str, dialect: str, system: str) -> Iterator[dict[str, Any]]:
    if turn.role == "assistant":
        yield from encode_output(turn.parts, where, dialect=dialect, answer=False)
        return
    own = dialect == NAME
    role = system if turn.role == "system" else "user"
    for kind, group in itertools.groupby(_named(turn), key=_group):
        parts = list(group)
        if kind == "message":
            contents = encode_contents(parts, where, answer=False, own=own)
            if contents:
                yield {"type": "message", "role": role, "content": plain(contents)}
        else:
            yield from (_encode_whole(part, where, own) for part in parts)
    if not turn.parts and turn.role != "tool":
        yield {"type": "message", "role": role, "content": []}


def _named(turn: Turn) -> tuple[Part, ...]:
    """The parts; the name of a user in a conversation of several, which has no field here, stands before the text."""
    first = turn.parts[0] if turn.parts else None
    if turn.role != "user" or not turn.name or not isinstance(first, Text):
        return turn.parts
    return (msgspec.structs.replace(first, text=f"{turn.name}: {first.text}"), *turn.parts[1:])


def _group(part: Part) -> str:
    if isinstance(part, ToolOutput):
        return "item"
    if not isinstance(part, Opaque) or part.dialect != NAME or part.hint or part.kind.startswith(CONTENT):
        return "message"
    return "item"


def _encode_whole(part: Part, where: str, own: bool) -> dict[str, Any]:
    """An item that is one part. That a tool failed has no field here: a request from another dialect says it in words,
    one from this dialect as the status that it came with."""
    if isinstance(part, Opaque):
        return part.value
    assert isinstance(part, ToolOutput)
    contents = encode_contents(part.parts, where, answer=False, own=own)
    if part.is_error and not own:
        told = contents and "error" in contents[0].get("text", "")[:40].lower()
        contents = contents if told else [{"type": "input_text", "text": "Error:"}, *contents]
    item = {"type": "function_call_output", "call_id": part.call_id, "output": plain(contents) if contents else ""}
    return item | ({"status": "incomplete"} if part.is_error and own else {})


class _Items:
    """Items under construction: texts join the message before them, and a hint opens the item that it describes."""

    def __init__(self, where: str, dialect: str, answer: bool) -> None:
        self.done: list[dict[str, Any]] = []
        self._where, self._dialect, self._answer = where, dialect, answer
        self._hint: dict[str, Any] = {}
        self._texts: list[Part] = []

    def add(self, part: Part) -> None:
        if isinstance(part, Text | Refusal) or _is_content(part):
            if self._hint.get("type") not in (None, "message"):
                self._hint = {}
            self._texts.append(part)
            return
        self.close_message()
        if isinstance(part, Opaque):
            self._opaque(part)
            return
        if isinstance(part, Thinking):
            item = _encode_thinking(part, self._dialect, self._answer)
        elif isinstance(part, ToolUse):
            item = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments or "{}"}
        else:
            raise Untranslatable(
                f"{self._where} holds a part of type '{type(part).__name__}', which an assistant cannot say in the "
                f"dialect '{NAME}'. Leave it out, or use a model behind another dialect."
            )
        hint, self._hint = self._hint, {}
        if item is not None:
            self.done.append(_described(item, hint))

    def close_message(self) -> None:
        if self._texts:
            contents = encode_contents(self._texts, self._where, answer=True, own=self._dialect == NAME)
            content = contents if self._answer or self._hint else plain(contents)
            message = {"type": "message", "role": "assistant", "content": content}
            self.done.append(message | self._hint)
            self._texts, self._hint = [], {}

    def _opaque(self, part: Opaque) -> None:
        if part.dialect == NAME and part.kind == ITEM:
            self._hint = part.value
        elif part.dialect == NAME:
            self.done.append(part.value)
        elif not part.hint:
            raise unknown_part(part, self._where)


def _is_content(part: Part) -> bool:
    return (
        isinstance(part, Opaque) and part.dialect == NAME and (part.kind.startswith(CONTENT) or part.kind == ANNOTATION)
    )


def encode_output(parts: Iterable[Part], where: str, *, dialect: str, answer: bool) -> list[dict[str, Any]]:
    """The items that an assistant's parts are, which came in ``dialect``. ``answer``: for a client, who wants contents
    as lists and may see what a provider may not."""
    items = _Items(where, dialect, answer)
    for part in parts:
        items.add(part)
    items.close_message()
    return items.done


def _encode_thinking(part: Thinking, dialect: str, answer: bool) -> dict[str, Any] | None:
    """None where a provider would get nothing but an empty item."""
    item: dict[str, Any] = {"type": "reasoning"}
    if part.id is not None:
        item["id"] = part.id
    item["summary"] = [{"type": "summary_text", "text": part.text}] if part.text else []
    proof = proof_of(part, dialect)
    if proof is not None and (answer or not proof.startswith(FOREIGN)):
        item["encrypted_content"] = proof
    return item if answer or part.id or part.text or "encrypted_content" in item else None


def proof_of(part: Thinking, dialect: str) -> str | None:
    """What ``encrypted_content`` holds of a thought that came in ``dialect``: OpenAI's own proof as it is, Anthropic's
    marked, none of anybody else. A thought with an id is OpenAI's wherever it has been."""
    if dialect == NAME or part.id is not None:
        return part.redacted
    if dialect == "anthropic" and part.signature:
        return SIGNATURE + part.signature
    return REDACTED + part.redacted if dialect == "anthropic" and part.redacted is not None else None


def _described(item: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """The item with what its hint says; several summaries only where they still are the item's text."""
    if hint.get("type") != item["type"]:
        return item
    split = {key: hint[key] for key in ("summary", "content") if key in hint}
    if item["type"] != "reasoning" or not split:
        return item | hint
    texts = [part.text for key in split for part in decode_contents(Fields(split), key) if isinstance(part, Text)]
    if [{"type": "summary_text", "text": "\n\n".join(texts)}] != item["summary"]:
        return item | {key: value for key, value in hint.items() if key not in split}
    return item | {"summary": []} | hint


def raw_reasoning(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with reasoning as raw text in ``content``, where open servers (llama.cpp, vLLM) read it and OpenAI
    refuses it; reasoning without a text is left out, as these servers cannot read it."""
    found = []
    for item in items:
        if item["type"] == "reasoning":
            parts = [part for key in ("summary", "content") for part in decode_contents(Fields(item), key)]
            text = "\n\n".join(part.text for part in parts if isinstance(part, Text))
            content = [{"type": "reasoning_text", "text": text}] if text else []
            item = {key: value for key, value in item.items() if key != "encrypted_content"}
            item |= {"id": item.get("id") or new_id("rs"), "summary": [], "content": content}
        if item["type"] != "reasoning" or item["content"]:
            found.append(item)
    return found


def new_id(prefix: str) -> str:
    """At most 64 characters, as OpenAI wants ids."""
    return f"{prefix}_potstill_{uuid.uuid4().hex}"
