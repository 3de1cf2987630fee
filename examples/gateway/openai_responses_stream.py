"""The same agent on OpenAI's responses API, streaming."""

import json

from openai import OpenAI

DEGREES = {"Oslo": 7, "Rome": 18}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "name": "temperature", "description": "Celsius.", "parameters": SCHEMA, "strict": True}]


def temperature(city: str) -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


client = OpenAI()
items = [{"role": "user", "content": "Which is warmer now, Oslo or Rome?"}]
for _ in range(6):
    with client.responses.stream(model="gpt-6.1-sol", input=items, tools=TOOLS, store=False) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
        response = stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in response.output]
    if not calls:
        break
    for call in calls:
        result = temperature(**json.loads(call.arguments))
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
print()
