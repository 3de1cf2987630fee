"""The same agent on Anthropic's SDK. Through potstill: export ANTHROPIC_BASE_URL=http://127.0.0.1:8000"""

from anthropic import Anthropic

DEGREES = {"Oslo": 7, "Rome": 18}
TOOLS = [
    {
        "name": "temperature",
        "description": "Degrees Celsius in a city now.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def temperature(city: str = "") -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


client = Anthropic()
messages = [{"role": "user", "content": "Which is warmer now, Oslo or Rome?"}]
for _ in range(6):
    message = client.messages.create(model="claude-sonnet-5-5", max_tokens=500, messages=messages, tools=TOOLS)
    messages.append({"role": "assistant", "content": message.content})
    calls = [block for block in message.content if block.type == "tool_use"]
    if not calls:
        print("".join(block.text for block in message.content if block.type == "text"))
        break
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": temperature(**call.input)} for call in calls]
    messages.append({"role": "user", "content": results})
