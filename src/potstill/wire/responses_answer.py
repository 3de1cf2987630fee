"""Answers and errors of the responses dialect to the neutral form and back.

What it knows: status and why an answer is incomplete, usage's shape, the fields of the request that an answer repeats,
OpenAI's error objects. What it does not do: items (``responses_items``), streams (``responses_stream``).
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from potstill.errors import BadResponse, Untranslatable
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.dialect import Problem
from potstill.wire.neutral import Answer, Choice, Part, Prompt, Text, ToolUse
from potstill.wire.openai_chat import ErrorBody, decode_error, excerpt
from potstill.wire.reading import Fields, dumps, field_in, load
from potstill.wire.responses_content import NAME
from potstill.wire.responses_items import decode_output_item, encode_output, new_id
from potstill.wire.responses_request import settings_of
from potstill.wire.usage import normalise_usage

_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}
_WHY = {reason: word for word, reason in _INCOMPLETE.items()}
ANSWER_FIELDS = frozenset(
    {"id", "model", "created_at", "object", "output", "status", "usage", "error", "incomplete_details"}
)

# --- decode -----------------------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> Answer:
    """Raises ``BadResponse`` for what is no response, and for one that failed, with the provider's reason."""
    try:
        raw = load(body, BadResponse, "The answer")
        if "output" not in raw.value and raw.value.get("status") is None:
            raise BadResponse("it has no 'output'")
    except BadResponse as error:
        told = _told(body)
        raise BadResponse(f"the endpoint did not answer with a response ({told or error}): {excerpt(body)}") from None
    return answer_of(raw)


def _told(body: bytes) -> str:
    return decode_error(body).message if b'"error"' in body[:200] and body.lstrip()[:1] == b"{" else ""


def answer_of(raw: Fields) -> Answer:
    """The answer that a response object is."""
    if raw.text("status") == "failed":
        raise BadResponse(f"the endpoint's answer failed: {failure_of(raw)[0]}")
    parts: list[Part] = []
    logprobs: list[TokenLogprob] = []
    for index, value in enumerate(raw.items("output")):
        item = Fields(value, f"output[{index}]", BadResponse)
        parts.extend(decode_output_item(item, item.need("type"), keep_ids=False))
        for content in item.items("content") if item.value["type"] == "message" else ():
            logprobs.extend(decode_logprobs(Fields(content, item.path("content"), BadResponse).items("logprobs")))
    finish, finer = finish_of(raw, parts)
    usage = raw.map("usage")
    return Answer(
        id=raw.text("id") or "",
        model=raw.text("model") or "",
        choices=(Choice(parts=tuple(parts), finish=finish, finish_raw=finer, logprobs=tuple(logprobs)),),
        created=raw.number("created_at"),
        usage=normalise_usage(usage),
        raw_usage=usage,
        dialect=NAME,
        extra=raw.rest(ANSWER_FIELDS),
    )


def finish_of(raw: Fields, parts: list[Part]) -> tuple[FinishReason, str | None]:
    """The neutral reason, and the dialect's word where that is finer."""
    status = raw.text("status") or "completed"
    if status == "completed":
        calls = any(isinstance(part, ToolUse) for part in parts)
        return (FinishReason.TOOL_CALLS if calls else FinishReason.STOP), None
    details = raw.inner("incomplete_details")
    reason = (details.text("reason") if details else None) or status
    finish = _INCOMPLETE.get(reason, FinishReason.OTHER)
    return finish, reason if finish is FinishReason.OTHER else None


def failure_of(raw: Fields) -> tuple[str, str]:
    """(message, code) of a failed response's error."""
    error = raw.value.get("error")
    if not isinstance(error, dict):
        return (str(error) if error else "it gave no reason"), ""
    return str(error.get("message") or error.get("code") or "it gave no reason"), str(error.get("code") or "")


def decode_logprobs(values: list[Any]) -> list[TokenLogprob]:
    """Entries without a token or a number are left out."""
    tokens = []
    for value in values:
        if _is_token(value):
            top = value.get("top_logprobs")
            others = [one for one in top if _is_token(one)] if isinstance(top, list) else []
            pairs = tuple((one["token"], float(one["logprob"])) for one in others)
            tokens.append(TokenLogprob(token=value["token"], logprob=float(value["logprob"]), top=pairs))
    return tokens


def _is_token(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("token"), str):
        return False
    number = value.get("logprob")
    return isinstance(number, float) or (isinstance(number, int) and abs(number) < 1e9)


# --- encode -----------------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, prompt: Prompt) -> bytes:
    """Raises ``BadResponse`` without a choice, ``Untranslatable`` for several."""
    if not answer.choices:
        raise BadResponse("the answer has no choices")
    if len(answer.choices) > 1:
        raise Untranslatable(f"the answer has {len(answer.choices)} choices; the dialect '{NAME}' gives one")
    choice, own = answer.choices[0], answer.dialect == NAME
    items = encode_output(choice.parts, "the answer", dialect=answer.dialect, answer=True)
    status, why = status_of(choice.finish, choice.finish_raw if own else None)
    for item in items:
        complete_item(item, status if item is items[-1] else "completed")
    _attach(items, encode_logprobs(choice.logprobs) if prompt.logprobs else [])
    body = envelope(prompt, answer.id, answer.model, answer.created, answer.extra if own else {})
    body |= {"status": status, "incomplete_details": why, "output": items}
    body["usage"] = encode_usage(answer.usage, answer.raw_usage if own else None)
    return dumps(body, BadResponse, "The answer")


def envelope(prompt: Prompt, name: str, model: str, created: float | None, extra: dict[str, Any]) -> dict[str, Any]:
    """A response object without output: the fields of the request that it repeats, those that clients insist on at
    their defaults. ``created`` in Unix seconds. A translated response is stored nowhere."""
    settings = settings_of(prompt)
    text = {"format": {"type": "text"}} | settings.pop("text", {})
    defaults = {
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_output_tokens": None,
        "metadata": {},
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "truncation": "disabled",
    }
    return {
        "id": name if name.startswith("resp_") else f"resp_{name or uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time() if created is None else created),
        "model": model or prompt.model,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": _instructions(prompt),
        **defaults,
        **settings,
        "text": text,
        **extra,
        "store": bool(extra.get("store", False)),
    }


def _instructions(prompt: Prompt) -> str | None:
    if not prompt.turns or prompt.turns[0].role != "system" or "instructions" in prompt.spelling:
        return None
    return "".join(part.text for part in prompt.turns[0].parts if isinstance(part, Text)) or None


def status_of(finish: FinishReason, finer: str | None) -> tuple[str, dict[str, Any] | None]:
    """(status, ``incomplete_details``). A reason that only another dialect has counts as completed."""
    if finish in _WHY:
        return "incomplete", {"reason": _WHY[finish]}
    if finish is FinishReason.OTHER and finer in ("queued", "in_progress", "cancelled"):
        return finer, None
    if finish is FinishReason.OTHER and finer:
        return "incomplete", None if finer == "incomplete" else {"reason": finer}
    return "completed", None


def complete_item(item: dict[str, Any], status: str) -> None:
    """Gives a message, call or reasoning the id and status that clients want; ids are recognised when they return."""
    prefix = {"message": "msg", "function_call": "fc", "reasoning": "rs"}.get(item["type"])
    if prefix is None:
        return
    if not item.get("id"):
        item["id"] = new_id(prefix)
    if prefix != "rs":
        item["status"] = "incomplete" if status == "incomplete" else "completed"


def encode_logprobs(tokens: tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    return [
        _logprob(one.token, one.logprob) | {"top_logprobs": [_logprob(token, value) for token, value in one.top]}
        for one in tokens
    ]


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode(errors="replace"))}


def _attach(items: list[dict[str, Any]], logprobs: list[dict[str, Any]]) -> None:
    """Log-probabilities stand at the first text."""
    contents = [content for item in items if item["type"] == "message" for content in item["content"]]
    texts = [content for content in contents if content["type"] == "output_text"]
    for text in texts:
        text["logprobs"] = []
    if texts:
        texts[0]["logprobs"] = logprobs


def encode_usage(usage: Usage | None, raw: dict[str, Any] | None) -> dict[str, Any] | None:
    """As it came, or from the counts; None where nothing is known."""
    if raw:
        return raw
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


# --- errors -----------------------------------------------------------------------------------------------------------

_TYPES = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "quota": "insufficient_quota",
    "overloaded": "server_error",
    "timeout": "timeout_error",
    "upstream": "server_error",
    "internal": "server_error",
}
_CODES = {
    "authentication": "invalid_api_key",
    "rate_limit": "rate_limit_exceeded",
    "quota": "insufficient_quota",
    "too_large": "request_too_large",
    "overloaded": "server_is_overloaded",
    "timeout": "timeout",
    "upstream": "server_error",
    "internal": "server_error",
}
_BY_STATUS = {
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_BY_WORD = {
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "model_not_found": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "server_is_overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "timeout_error": "timeout",
    "invalid_request_error": "invalid_request",
    "invalid_prompt": "invalid_request",
}


def encode_problem(problem: Problem) -> bytes:
    return dumps({"error": problem_object(problem)}, BadResponse, "The error")


def problem_object(problem: Problem) -> dict[str, Any]:
    return {
        "message": problem.message,
        "type": _TYPES.get(problem.kind, "server_error"),
        "param": field_in(problem.message) if problem.kind == "invalid_request" else None,
        "code": problem.code or _CODES.get(problem.kind),
    }


def error_code(kind: str) -> str:
    """The code of a response that failed: OpenAI's words where it has one."""
    return {"invalid_request": "invalid_prompt"}.get(kind) or _CODES.get(kind, "server_error")


def decode_problem(status: int, body: bytes) -> Problem:
    """Any body gives something readable."""
    try:
        error = decode_error(body)
    except RecursionError:
        error = ErrorBody(message=excerpt(body))
    kind = kind_of(error.code, error.kind, status)
    return Problem(status=status, kind=kind, message=error.message, code=error.code or None)


def kind_of(code: str, word: str, status: int) -> str:
    """The status decides, except that quota looks like a limit of the rate."""
    if _BY_WORD.get(code) == "quota" or _BY_WORD.get(word) == "quota":
        return "quota"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    known = _BY_WORD.get(code) or _BY_WORD.get(word)
    if known is not None:
        return known
    return "invalid_request" if 400 <= status < 500 else "upstream"
