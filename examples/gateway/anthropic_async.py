"""The same agent on Anthropic's asynchronous SDK; both tools' results are asked for at once, if the model wishes."""

import asyncio

from anthropic import AsyncAnthropic

DEGREES = {"Oslo": 7, "Rome": 18}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": "temperature", "description": "Degrees Celsius in a city now.", "input_schema": SCHEMA}]


async def temperature(city: str) -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


async def main() -> None:
    client = AsyncAnthropic()
    messages = [{"role": "user", "content": "Which is warmer now, Oslo or Rome? Ask for both at once."}]
    for _ in range(6):
        asked = {"model": "claude-sonnet-5-5", "max_tokens": 500, "messages": messages, "tools": TOOLS}
        message = await client.messages.create(**asked)
        messages.append({"role": "assistant", "content": message.content})
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            print("".join(block.text for block in message.content if block.type == "text"))
            break
        told = await asyncio.gather(*(temperature(**call.input) for call in calls))
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": text}
            for call, text in zip(calls, told, strict=True)
        ]
        messages.append({"role": "user", "content": results})


asyncio.run(main())
