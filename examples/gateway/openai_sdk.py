"""An agent with one tool on OpenAI's SDK. Through potstill: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1"""

import json

from openai import OpenAI

DEGREES = {"Oslo": 7, "Rome": 18}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "temperature",
            "description": "Degrees Celsius in a city now.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def temperature(city: str = "") -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


client = OpenAI()
messages = [{"role": "user", "content": "Which is warmer now, Oslo or Rome?"}]
for _ in range(6):
    completion = client.chat.completions.create(model="gpt-6.1-sol", messages=messages, tools=TOOLS)
    message = completion.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    if not message.tool_calls:
        print(message.content)
        break
    for call in message.tool_calls:
        result = temperature(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
