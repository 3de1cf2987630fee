"""The same agent on OpenAI's asynchronous SDK; both tools' results are asked for at once, if the model wishes."""

import asyncio
import json

from openai import AsyncOpenAI

DEGREES = {"Oslo": 7, "Rome": 18}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "temperature", "description": "Degrees C.", "parameters": SCHEMA}}]


async def temperature(city: str) -> str:
    return f"{city}: {DEGREES.get(city, 'unknown')}"


async def main() -> None:
    client = AsyncOpenAI()
    messages = [{"role": "user", "content": "Which is warmer now, Oslo or Rome? Ask for both at once."}]
    for _ in range(6):
        completion = await client.chat.completions.create(model="gpt-6.1-sol", messages=messages, tools=TOOLS)
        message = completion.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        calls = message.tool_calls or []
        if not calls:
            print(message.content)
            break
        results = await asyncio.gather(*(temperature(**json.loads(call.function.arguments)) for call in calls))
        for call, result in zip(calls, results, strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


asyncio.run(main())
