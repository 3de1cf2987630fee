"""Values that stand nowhere in a chat completion's JSON, and everywhere in these tests: its words in wrong places."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JUNK = st.recursive(
    LEAVES | st.sampled_from(["user", "assistant", "tool", "text", "function", "json_schema", "image_url"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "text",
                    "image_url",
                    "url",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "tool_call_id",
                    "refusal",
                    "json_schema",
                    "schema",
                    "function_call",
                    "reasoning",
                    "effort",
                    "reasoning_content",
                    "cache_control",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
