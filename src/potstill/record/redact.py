"""Takes secrets out of what is recorded: bodies in, bodies out, JSON stays JSON.

What it knows: JSON's strings (escaped ones too), server-sent streams whose pieces cut a secret in two, and text.
What it does not do: say what a secret is (``secrets_rules``), decode what stands in base64 (images, files) or other
encodings within a text: a secret there stays.

A match becomes ``[redacted:NAME]``, a second different one of the same kind ``[redacted:NAME#2]``: equal secrets stay
equal within a body. A number that is a card's becomes 0. Names and places of fields, and all else, stay byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.record.cleaning import CleanRequests
from potstill.record.pieces import holds_any, substituted
from potstill.record.prefilter import may_hold_secret
from potstill.record.secrets_rules import BUILT_IN, EMAIL, PHONE, SECRET_FIELDS, Rule, luhn, user_rule
from potstill.record.sse_text import interleaved, is_stream, redact_stream, streamed_text
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Decision, ErrorRecord, Struct

_TOKEN = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*+:)?|-?[0-9][0-9.eE+-]*+', re.DOTALL)
_CARD_NUMBER = re.compile(rb"[0-9]{14,19}")


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
    much that is no secret, and a body with an ``@`` or many digits is then always parsed).

    >>> Redactor().body(b'{"content": "use sk-proj-abcdefghijklmnopqrstuvwxyz"}')
    b'{"content": "use [redacted:api-key]"}'
    """

    def __init__(
        self, patterns: Iterable[str] = (), *, builtin: bool = True, email: bool = False, phone: bool = False
    ) -> None:
        rules = list(BUILT_IN) if builtin else []
        rules += [EMAIL] if email else []
        rules += [PHONE] if phone else []
        own = [user_rule(pattern, number) for number, pattern in enumerate(patterns, 1)]
        self._rules: tuple[Rule, ...] = (*own, *rules)
        self._builtin = builtin
        self._always = bool(own) or phone
        self._email = email
        self._clean = CleanRequests()

    # --- texts and bodies ---------------------------------------------------------------------------------------------

    def text(self, text: str, masks: Masks | None = None) -> str:
        """A text without its secrets."""
        held = Masks() if masks is None else masks
        for rule in self._rules:
            if rule.needs and not holds_any(text, rule.needs):
                continue
            text = substituted(rule, text, partial(_masked, rule=rule, masks=held))
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
        secret_next = False

        def token(found: re.Match[bytes]) -> bytes:
            nonlocal secret_next
            raw, is_field = found[1], found[2]
            if raw is None:
                secret_next = False
                return b"0" if self._builtin and _is_card(found[0]) else found[0]
            text = _unescaped(raw)
            changed = text
            if text is not None:
                whole = secret_next and not is_field and bool(text) and self._builtin
                changed = masks.mask("field", text) if whole else self.text(text, masks)
            secret_next = bool(is_field) and text is not None and text.lower() in SECRET_FIELDS
            if changed is None or changed == text:
                return found[0]
            return _escaped(changed) + (is_field or b"")

        out, end = [], 0
        for found in _TOKEN.finditer(data):
            if secret_next and _opens(data, end, found.start()):
                secret_next = False
            new = token(found)
            if new is not found[0]:
                out += [data[end : found.start()], new]
            else:
                out.append(data[end : found.end()])
            end = found.end()
        return b"".join([*out, data[end:]])

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


def _unescaped(raw: bytes) -> str | None:
    """The text of a JSON string; None for one that is no valid text (it stays as it is)."""
    try:
        if b"\\" not in raw:
            return raw.decode()
        text: str = json.loads(b'"%b"' % raw, strict=False)
        return text
    except ValueError:
        return None


def _escaped(text: str) -> bytes:
    try:
        return json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(text).encode()
