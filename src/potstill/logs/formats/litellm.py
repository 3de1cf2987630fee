"""LiteLLM's spend logs (``/spend/logs``, exports of ``LiteLLM_SpendLogs``) and the payloads of its logging callbacks.

What it knows: the table's columns and the standard logging payload (from LiteLLM's source, read in 2026-11). Prompts
are there only where ``store_prompts_in_spend_logs`` was set. What it does not do: rows that no model answered
(embeddings, files, answers out of LiteLLM's own cache): they are skipped and say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from potstill.logs.conversation import Conversation, told
from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.records import LogCall, Problem, Source
from potstill.types import Usage

_CALLS = {
    "completion",
    "acompletion",
    "text_completion",
    "atext_completion",
    "responses",
    "aresponses",
    "anthropic_messages",
    "generate_content",
    "agenerate_content",
    "generate_content_stream",
    "agenerate_content_stream",
    "pass_through_endpoint",
    "",
}
_ANSWERS = ("response", "output")


class LiteLLM:
    """Rows of spend logs."""

    name = "litellm"
    arrays = ("", "data", "logs", ".")

    def fits(self, row: Mapping[str, Any]) -> bool:
        counted = "prompt_tokens" in row and "completion_tokens" in row and "call_type" in row
        return counted and ("spend" in row or "response_cost" in row)

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[LogCall]:
        fields = msgspec.json.decode(row, type=dict[str, Any])
        metadata = values.mapping(fields.get("metadata"))
        if str(fields.get("call_type") or "") not in _CALLS:
            raise Skipped("not a call of a chat model", str(fields["call_type"]))
        if str(fields.get("cache_hit")).lower() == "true":
            raise Skipped("answered out of LiteLLM's own cache: nothing was billed")
        model = values.text(fields.get("model")) or values.text(fields.get("model_group"))
        if model is None:
            raise Skipped("no model is named")
        return (_log_call(fields, metadata, model, source),)


def _log_call(fields: Mapping[str, Any], metadata: Mapping[str, Any], model: str, source: Source) -> LogCall:
    problems: list[Problem] = []
    start = values.seconds(fields.get("startTime"), "startTime", problems)
    end = values.seconds(fields.get("endTime"), "endTime", problems)
    error = _error(fields, metadata)
    cost = values.number(values.first(fields, ("spend", "response_cost")), "spend", problems)
    spend_metadata = values.mapping(metadata.get("spend_logs_metadata"))
    task = values.first(spend_metadata, ("task_id", "instance_id"))
    return LogCall(
        **_conversation(fields)._asdict(),
        model=model,
        provider=values.text(fields.get("custom_llm_provider")),
        run=values.text(values.first(spend_metadata, ("run", "run_id"))) or "",
        episode_id=values.text(values.first(fields, ("session_id", "trace_id"))),
        task_id=values.text(task),
        call_id=values.text(values.first(fields, ("request_id", "id"))),
        started_at=start,
        latency_s=values.lasted(start, end, problems),
        usage=None if error else _usage(fields, metadata, problems),
        cost_usd=_known(cost, fields, error),
        error=error,
        source=source,
        problems=tuple(problems),
    )


def _known(cost: float | None, fields: Mapping[str, Any], error: str | None) -> float | None:
    """What the log says that the call cost. Models that LiteLLM has no price for stand there at zero: unknown."""
    return None if cost == 0 and (error is not None or values.counted(fields.get("total_tokens"))) else cost


def _usage(fields: Mapping[str, Any], metadata: Mapping[str, Any], problems: list[Problem]) -> Usage | None:
    """The table's own counts, with the parts that the provider's usage object tells. Prompts include cached parts."""
    raw = values.mapping(metadata.get("usage_object")) or values.mapping(_answer(fields).get("usage"))
    more = {**raw, **values.mapping(metadata.get("additional_usage_values"))}
    details = values.mapping(more.get("prompt_tokens_details"))
    read = values.first(details, ("cached_tokens",))
    write = values.first(details, ("cache_write_tokens", "cache_creation_tokens"))
    reasoning = values.mapping(more.get("completion_tokens_details")).get("reasoning_tokens")
    return values.usage(
        values.chat_usage(
            prompt=values.counted(fields.get("prompt_tokens")),
            completion=values.counted(fields.get("completion_tokens")),
            total=values.counted(fields.get("total_tokens")),
            read=more.get("cache_read_input_tokens") if read is None else read,
            write=more.get("cache_creation_input_tokens") if write is None else write,
            reasoning=reasoning,
        ),
        problems,
    )


def _error(fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    failed = "failure" in (fields.get("status"), metadata.get("status"))
    said = values.mapping(metadata.get("error_information"))
    message = values.first(said, ("error_message", "error_class", "error_code"))
    told_error = values.told_error(fields.get("error_str"), message)
    return (told_error or "failure") if failed else None


def _answer(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return values.mapping(values.first(fields, _ANSWERS))


def _conversation(fields: Mapping[str, Any]) -> Conversation:
    """Prompt and answer, where they were stored: in columns of their own, else in the request as the proxy got it."""
    request = values.mapping(fields.get("proxy_server_request"))
    request = values.mapping(request.get("body")) or request
    messages = values.structured(fields.get("messages")) or values.first(request, ("messages", "input"))
    parameters = values.mapping(fields.get("model_parameters"))
    answer = _answer(fields)
    choices = answer.get("choices")
    message = (
        choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    )
    if message is None and answer.get("content") is not None:
        message = {"role": "assistant", "content": answer["content"]}
    tools = values.first(request, ("tools",)) or parameters.get("tools")
    system = values.first(request, ("system", "instructions"))
    return told(messages or None, answer.get("output") if message is None else message, system=system, tools=tools)


FORMATS = (LiteLLM(),)
