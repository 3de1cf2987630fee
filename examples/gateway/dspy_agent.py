"""The same agent with dspy. Through potstill: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1

dspy writes each prompt anew instead of adding to the last one: the header says that the calls belong together.
"""

import uuid

import dspy

DEGREES = {"Oslo": 7, "Rome": 18}


def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


episode = {"x-potstill-episode": f"dspy-{uuid.uuid4()}", "x-potstill-goal": "Which is warmer now, Oslo or Rome?"}
dspy.configure(lm=dspy.LM("openai/gpt-6.1-sol", extra_headers=episode, cache=False))
agent = dspy.ReAct("question -> answer", tools=[temperature], max_iters=5)
print(agent(question="Which is warmer now, Oslo or Rome?").answer)
