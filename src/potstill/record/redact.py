"""Takes secrets out of what is recorded: bodies in, bodies out, JSON stays JSON.

What it knows: JSON's strings (escaped ones too), server-sent streams whose pieces cut a secret in two, and text.
What it does not do: say what a secret is (``secrets_rules``), decode what stands in base64 (images, files) or other
encodings within a text: a secret there stays.

A match becomes ``[redacted:NAME]``, a second different one of the same kind ``[redacted:NAME#2]``: equal secrets stay
equal within a body. A number that is a card's becomes 0. Names and places of fields, and all else, stay byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.record.cleaning import CleanRequests
from potstill.record.json_texts import Token, decoded, encoded, tokens
from potstill.record.pieces import Needs, substituted
from potstill.record.prefilter import may_hold_secret
from potstill.record.secrets_rules import BUILT_IN, EMAIL, PHONE, Rule, is_secret_field, luhn, user_rule
from potstill.record.sse_text import interleaved, is_stream, redact_stream, streamed_text
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Decision, ErrorRecord, Struct

_CARD_NUMBER = re.compile(rb"[0-9]{14,19}")
LONGEST_FIELD = 256


class Masks:
    """Which mask each secret of one body has."""

    def __init__(self) -> None:
        self._masks: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def mask(self, name: str, secret: str) -> str:
        known = self._masks.get((name, secret))
        if known is None:
            count = self._counts[name] = self._counts.get(name, 0) + 1
            known = self._masks[name, secret] = f"[redacted:{name}]" if count == 1 else f"[redacted:{name}#{count}]"
        return known


class Redactor:
    """Holds the rules; safe to use from several threads.

    ``patterns``: a user's own regular expressions, matched against decoded texts; raises ``ConfigError`` for one that
    can take forever. ``builtin`` False leaves the built-in rules out. ``email`` and ``phone`` add theirs (they match
    much that is no secret, and a body with an ``@`` or many digits is then always parsed). ``prose`` adds passwords in
    plain words (``secrets_prose``), for texts that models are shown: a body is then always parsed.

    >>> Redactor().body(b'{"content": "use sk-proj-abcdefghijklmnopqrstuvwxyz"}')
    b'{"content": "use [redacted:api-key]"}'
    """

    def __init__(
        self,
        patterns: Iterable[str] = (),
        *,
        builtin: bool = True,
        email: bool = False,
        phone: bool = False,
        prose: bool = False,
    ) -> None:
        rules = list(BUILT_IN) if builtin else []
        rules += [EMAIL] if email else []
        rules += [PHONE] if phone else []
        rules += _prose() if prose else []
        own = [user_rule(pattern, number) for number, pattern in enumerate(patterns, 1)]
        self._rules: tuple[Rule, ...] = (*own, *rules)
        self._builtin = builtin
        self._always = bool(own) or phone or prose
        self._email = email
        self._clean = CleanRequests()

    # --- texts and bodies ---------------------------------------------------------------------------------------------

    def text(self, text: str, masks: Masks | None = None) -> str:
        """A text without its secrets."""
        held = Masks() if masks is None else masks
        needs = Needs(text)
        for rule in self._rules:
            if needs.met(rule):
                changed = substituted(rule, text, partial(_masked, rule=rule, masks=held))
                text, needs = changed, needs if changed is text else Needs(changed)
        return text

    def body(self, data: bytes) -> bytes:
        """A request's or an answer's body without its secrets: the same object where there are none."""
        if not data:
            return data
        stream = is_stream(data)
        if not self._may_match(data, stream):
            return data
        masks = Masks()
        if stream:
            clean = redact_stream(data, lambda text: self.text(text, masks), lambda raw: self._json(raw, masks))
        else:
            clean = self._json(data, masks)
        return data if clean == data else clean

    def may_hold(self, data: bytes) -> bool:
        """False: no rule matches in these bytes (a stream's pieces are to be looked at behind each other)."""
        return self._may_match(data, False)

    def _may_match(self, data: bytes, stream: bool) -> bool:
        if self._always or (self._email and b"@" in data):
            return True
        if not self._builtin:
            return False
        return may_hold_secret(data) or (stream and (interleaved(data) or may_hold_secret(streamed_text(data))))

    def _json(self, data: bytes, masks: Masks) -> bytes:
        try:
            msgspec.json.decode(data, type=msgspec.Raw)
        except RecursionError:  # maybe JSON, nested too deeply to tell: looked at as both
            data = self._plain(data, masks)
        except NOT_JSON:
            return self._plain(data, masks)
        out: list[bytes] = []
        end, secret_next = 0, False
        for token in tokens(data):
            whole = secret_next and not _opens(data, end, token.start)
            new, secret_next = self._token(data, token, whole, masks)
            if new is not None:
                out += [data[end : token.start], new]
            else:
                out.append(data[end : token.end])
            end = token.end
        return b"".join([*out, data[end:]])

    def _token(self, data: bytes, token: Token, whole: bool, masks: Masks) -> tuple[bytes | None, bool]:
        """What replaces a text or a number, None: it stays; and whether it is a field whose text is a secret."""
        if token.parts is None:
            is_card = self._builtin and _is_card(data[token.start : token.end])
            return b"0" if is_card else None, False
        text = decoded(token.parts)
        if whole and not token.sign and text and self._builtin:
            changed = masks.mask("field", text)
        else:
            changed = self.text(text, masks)
        secret_next = bool(token.sign) and len(text) <= LONGEST_FIELD and is_secret_field(text)
        if changed is text or changed == text:
            return None, secret_next
        return encoded(changed, token.parts) + (token.sign or b""), secret_next

    def _plain(self, data: bytes, masks: Masks) -> bytes:
        text = data.decode("utf-8", "surrogateescape")
        changed = self.text(text, masks)
        return data if changed == text else changed.encode("utf-8", "surrogateescape")

    # --- exchanges ----------------------------------------------------------------------------------------------------

    def exchange(self, exchange: Exchange) -> Exchange:
        """An exchange without secrets, in whatever field: for the recorder."""
        return msgspec.structs.replace(
            exchange,
            request=self._request(exchange),
            response=self.body(exchange.response),
            calls=tuple(self._call(call) for call in exchange.calls),
            decision=self._struct(exchange.decision, Decision),
            error=self._struct(exchange.error, ErrorRecord),
            notes=tuple(self.text(note) for note in exchange.notes),
            metadata=self._value(exchange.metadata),
        )

    def _request(self, exchange: Exchange) -> bytes:
        """An agent repeats its history: what was clean in the request before is not looked at again."""
        data, key = exchange.request, (exchange.namespace, exchange.episode_id)
        if self._always or self._email or not self._builtin or is_stream(data):
            return self.body(data)
        clean = data if not may_hold_secret(self._clean.news(key, data)) else self.body(data)
        self._clean.keep(key, data if clean is data else b"")
        return clean

    def _call(self, call: Upstream) -> Upstream:
        if call.request is None and call.response is None and call.error is None:
            return call
        return msgspec.structs.replace(
            call,
            request=None if call.request is None else self.body(call.request),
            response=None if call.response is None else self.body(call.response),
            error=self._struct(call.error, ErrorRecord),
        )

    def _struct(self, value: Any, kind: type[Struct]) -> Any:
        if value is None:
            return None
        encoded = msgspec.json.encode(value)
        clean = self.body(encoded)
        return value if clean is encoded or clean == encoded else msgspec.json.decode(clean, type=kind)

    def _value(self, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            return value
        encoded = msgspec.json.encode(value)
        clean = self.body(encoded)
        return value if clean == encoded else msgspec.json.decode(clean, type=dict[str, Any])


def _prose() -> tuple[Rule, ...]:
    from potstill.record.secrets_prose import PROSE

    return PROSE


def _masked(found: re.Match[str], rule: Rule, masks: Masks) -> str:
    named = "secret" in rule.pattern.groupindex
    secret = found["secret"] if named else found[0]
    if secret is None or secret.startswith("[redacted:") or (rule.check is not None and not rule.check(secret)):
        return found[0]
    mask = masks.mask(rule.name, secret)
    if not named:
        return mask
    start, end = found.start("secret") - found.start(), found.end("secret") - found.start()
    return found[0][:start] + mask + found[0][end:]


def _is_card(raw: bytes) -> bool:
    return _CARD_NUMBER.fullmatch(raw) is not None and luhn(raw.decode())


def _opens(data: bytes, start: int, end: int) -> bool:
    """Whether an object or a list begins between two tokens: the field's value is no text then."""
    between = data[start:end]
    return b"{" in between or b"[" in between or b"," in between or b"}" in between
