"""The same agent on OpenAI's responses API. Through potstill: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1"""

import json

from openai import OpenAI

DEGREES = {"Oslo": 7, "Rome": 18}
TOOLS = [
    {
        "type": "function",
        "name": "temperature",
        "description": "Degrees Celsius in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": False,
    }
]


def temperature(city: str = "") -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


client = OpenAI()
items = [{"role": "user", "content": "Which is warmer now, Oslo or Rome?"}]
for _ in range(6):
    response = client.responses.create(model="gpt-6.1-sol", input=items, tools=TOOLS, store=False)
    items += response.output
    calls = [item for item in response.output if item.type == "function_call"]
    if not calls:
        print(response.output_text)
        break
    for call in calls:
        result = temperature(**json.loads(call.arguments))
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
