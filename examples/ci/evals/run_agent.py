"""A small agent over 60 fixed tasks, and how its attempts are written down: one JSON line for each.

    python evals/run_agent.py attempts.jsonl

It looks for an answer in the documents that a search gave it, reading the first DOCUMENTS of them. Put your own agent
here: what ``potstill compare`` needs of an attempt is ``task_id``, ``model``, ``success`` and dollars or tokens.
"""

import hashlib
import json
import os
import sys

DOCUMENTS = int(os.environ.get("DOCUMENTS", "4"))
TASKS = 60
TOKENS_OF_A_DOCUMENT = 1500


def rank_of_the_answer(task: int) -> int:
    """Where the answer stands in the search results: mostly at the top."""
    draw = hashlib.sha256(f"task {task}".encode()).digest()[0]
    return next((rank for rank, limit in enumerate((110, 160, 190, 205, 212, 216)) if draw < limit), 99)


def attempt(task: int) -> dict[str, object]:
    return {
        "task_id": f"question-{task}",
        "model": "gpt-4.1-mini",
        "success": rank_of_the_answer(task) < DOCUMENTS,
        "input_tokens": 400 + TOKENS_OF_A_DOCUMENT * DOCUMENTS,
        "output_tokens": 120,
    }


with open(sys.argv[1], "w", encoding="utf-8") as file:
    for task in range(TASKS):
        file.write(json.dumps(attempt(task)) + "\n")
