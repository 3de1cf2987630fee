"""An upstream that speaks another dialect than the client: through the neutral form, event by event.

What it knows: the two dialects' codecs, put one behind the other. What it does not do: any dialect's bytes, sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from potstill.errors import BadRequest, Untranslatable
from potstill.serve.clients.problems import ANTHROPIC, CHAT, RESPONSES
from potstill.serve.deciding.student import images_of
from potstill.serve.upstreams.passing import CUT_OFF
from potstill.serve.upstreams.shaping import NAMES, SHAPELESS, Shape, shaped
from potstill.serve.upstreams.told import Told
from potstill.wire.assemble import Assembler, events_of
from potstill.wire.dialect import Dialect, Problem
from potstill.wire.events import Begin, Broken, Done, Event, Ping
from potstill.wire.neutral import Answer, Prompt

MARK = b"potstill"
"""Stands in all that translated answers make up."""


class Translating:
    foreign = True
    usage_told = b""
    usage: dict[str, Any] | None = None

    def __init__(
        self, prompt: Prompt, client: Dialect, upstream: Dialect, model: str, shape: Shape = SHAPELESS
    ) -> None:
        """Raises ``Untranslatable`` for what the upstream's dialect cannot say, ``BadRequest`` for a wrong address."""
        _check_addresses(prompt)
        self._prompt = prompt
        self._client = client
        self._upstream = upstream
        self._decoder = upstream.stream_decoder()
        self._encoder = client.stream_encoder(prompt)
        self._broken: Problem | None = None
        self._told = False
        self._begun = self._done = False
        self.put_in = named_by_us(prompt)
        asked = msgspec.structs.replace(prompt, model=model, stream_usage=True)
        self.request = shaped(upstream.encode_request(asked), shape)

    def whole(self, body: bytes, *, streamed: bool) -> bytes:
        """As the client asked for it, a stream too, however it came."""
        answer = assembled(body, self._upstream) if streamed else self._upstream.decode_answer(body)
        if self._prompt.stream:
            return as_stream(answer, self._prompt, self._client)
        return self._client.encode_answer(answer, self._prompt)

    def feed(self, chunk: bytes) -> bytes:
        return self._encoded(self._decoder.feed(chunk))

    def rest(self) -> bytes:
        return b""

    def ended(self, told: Told) -> bool:
        return self._done

    def close(self, told: Told) -> tuple[bytes, Problem | None]:
        return self._encoded(self._decoder.close()), self._broken

    def broken(self, problem: Problem) -> bytes:
        if self._broken is not None:
            return b""
        event = Broken(message=problem.message, kind=problem.kind, status=problem.status)
        return self._encoder.encode(event)

    def _encoded(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Broken):
                self._broken = msgspec.structs.replace(CUT_OFF, message=event.message, status=event.status or 502)
            elif isinstance(event, Begin):
                if self._begun:  # an upstream that begins twice
                    continue
                self._begun = True
            elif not self._begun and not isinstance(event, Ping):  # or one that forgets to
                self._begun = True
                out.append(self._encoder.encode(Begin(id="", model=self._prompt.model)))
            self._done = self._done or isinstance(event, Done)
            out.append(self._encoder.encode(event))
        if self._encoder.failure is not None:
            self._cannot_say(self._encoder.failure)
        self._told = self._told or bool(out)
        return b"".join(out)

    def _cannot_say(self, why: str) -> None:
        """The client's dialect has no word for what came: an error in the stream, or of its own before the stream."""
        if not self._told:
            raise Untranslatable(why)
        self._broken = self._broken or Problem(status=502, kind="upstream", message=why, code="untranslatable")


def _check_addresses(prompt: Prompt) -> None:
    """Nobody here fetches an image, but the upstream may: it is told no other address than one of the web. Raises
    ``BadRequest``."""
    for image in images_of(prompt):
        if image.url is not None and not image.url.lower().startswith(("https://", "http://", "data:")):
            scheme = image.url.partition(":")[0][:20]
            raise BadRequest(f"An image's address begins with '{scheme}:'; allowed: https, http, data.")


def named_by_us(prompt: Prompt) -> frozenset[str]:
    """Fields of a translated request that its client did not write, or not so."""
    counted = {"stream_options"} if not prompt.stream_usage or prompt.dialect != CHAT else set()
    return frozenset(counted | (set(NAMES) if prompt.dialect != CHAT else set()))


def must_be_rewritten(name: str, body: bytes) -> bool:
    """Whether a request in the dialect ``name`` holds thoughts, proofs or ids that its provider did not write, as
    translated answers have them: a provider refuses those, so the body must not be sent as it came."""
    if name not in (ANTHROPIC, RESPONSES) or MARK not in body:
        return False
    if name == ANTHROPIC:
        from potstill.wire.anthropic import holds_unsigned

        return holds_unsigned(body)
    from potstill.wire.openai_responses import needs_rewriting

    return needs_rewriting(body)


def as_stream(answer: Answer, prompt: Prompt, client: Dialect) -> bytes:
    """A whole answer as the stream that the client asked for. Raises ``Untranslatable``."""
    encoder = client.stream_encoder(prompt)
    told = b"".join(encoder.encode(event) for event in events_of(answer))
    if encoder.failure is not None:
        raise Untranslatable(encoder.failure)
    return told


def assembled(body: bytes, upstream: Dialect) -> Answer:
    """A stream that nobody asked to be one, as a whole answer. Raises ``BadResponse``."""
    assembler, decoder = Assembler(), upstream.stream_decoder()
    assembler.extend(decoder.feed(body))
    assembler.extend(decoder.close())
    return assembler.answer()
