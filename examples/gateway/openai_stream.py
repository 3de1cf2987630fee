"""The same agent, its answer printed as it comes: OpenAI's SDK, streaming."""

import json

from openai import OpenAI

DEGREES = {"Oslo": 7, "Rome": 18}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TEMPERATURE = {"name": "temperature", "description": "Degrees Celsius now.", "parameters": SCHEMA, "strict": True}


def temperature(city: str) -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


client = OpenAI()
messages = [{"role": "user", "content": "Which is warmer now, Oslo or Rome?"}]
for _ in range(6):
    asked = {"model": "gpt-6.1-sol", "messages": messages, "tools": [{"type": "function", "function": TEMPERATURE}]}
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        for event in stream:
            if event.type == "content.delta":
                print(event.delta, end="", flush=True)
        completion = stream.get_final_completion()
    message = completion.choices[0].message
    messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
    if not message.tool_calls:
        break
    for call in message.tool_calls:
        result = temperature(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
print()
