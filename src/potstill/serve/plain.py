"""Endpoints that are passed through and not recorded: embeddings, counting tokens.

What it knows: which dialects have them. What it does not do: streams, students, the record.
"""

from __future__ import annotations

import msgspec

from potstill.errors import ModelError
from potstill.serve.answers import usage_of
from potstill.serve.outline import Outline, with_fields
from potstill.serve.problems import ANTHROPIC, Headers, refused
from potstill.serve.settings import Limits, Model
from potstill.serve.translate import must_be_rewritten
from potstill.serve.upstreams import READ_ERRORS, Upstreams, answer_headers, read_failure
from potstill.wire import anthropic
from potstill.wire.usage import normalise_usage

COUNT = "/messages/count_tokens"


class Plain:
    def __init__(self, upstreams: Upstreams, limits: Limits) -> None:
        self._upstreams = upstreams
        self._limits = limits

    async def passed(
        self, path: str, model: Model, headers: Headers, body: bytes, outline: Outline
    ) -> tuple[int, Headers, bytes]:
        """The upstream's answer as it came: status, headers, body. Raises ``Refused``."""
        endpoint = self._upstreams.endpoints[model.upstream]
        if (endpoint.dialect == ANTHROPIC) != path.startswith("/messages"):
            message = f"The upstream '{endpoint.name}' of '{outline.model}' speaks {endpoint.dialect}: no {path}."
            raise refused(404, "not_found", message)
        if path == COUNT and must_be_rewritten(ANTHROPIC, body):
            body = anthropic.ANTHROPIC.encode_count(anthropic.ANTHROPIC.decode_request(body))
        if model.model != outline.model:
            body = with_fields(body, {"model": msgspec.json.encode(model.model)})
        response = await self._upstreams.send(endpoint, body, endpoint.headers(headers, same_dialect=True), path=path)
        try:
            chunks, room = [], self._limits.max_answer_bytes
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                room -= len(chunk)
                if room < 0:
                    raise refused(502, "upstream", f"The upstream '{endpoint.name}' answered more than is allowed.")
        except READ_ERRORS as error:
            raise read_failure(endpoint, error) from None
        finally:
            response.close()
        answer = b"".join(chunks)
        if response.status > 599:
            raise refused(
                502, "upstream", f"The upstream '{endpoint.name}' answered with the status {response.status}."
            )
        if response.status in (401, 403) and endpoint.key is not None and not endpoint.upstream.pass_key:
            raise refused(502, "upstream", f"The upstream '{endpoint.name}' refused the gateway's key.")
        if response.status >= 300:
            answer = endpoint.redact(answer)
        return response.status, answer_headers(response), answer


def tokens_of(body: bytes) -> int:
    """All tokens that an answer bills; 0 where it does not say."""
    try:
        usage = normalise_usage(usage_of(body))
    except (msgspec.DecodeError, UnicodeDecodeError, ModelError):
        return 0
    return 0 if usage is None else usage.input_tokens + usage.output_tokens
