"""The part of ``miprov2.py`` that runs in the Python which has ``dspy``; it has no potstill.

What it knows: DSPy. It reads a job as a line of JSON, and answers with lines of JSON: requests for a grade, each
answered by a line on its input, and at the end what came of the job. What it does not do: grade, price, read files.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from importlib.metadata import version
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no prices from the network when it is imported
os.environ.setdefault("LITELLM_TELEMETRY", "False")
os.environ.setdefault("DSPY_CACHEDIR", tempfile.mkdtemp(prefix="dspy-"))


class Parent:
    """The line to the recipe. What libraries print goes to stderr, so that nothing but JSON is on it."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def read(self) -> Any:
        return json.loads(sys.stdin.readline())

    def say(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def grade(self, task: str, answer: str) -> float:
        with self._lock:
            self.say({"grade": task, "answer": answer})
            return float(self.read()["score"])


def main() -> None:
    parent = Parent()
    job = parent.read()
    import dspy

    billed: list[dict[str, Any]] = []

    class Billed(dspy.LM):  # type: ignore[misc]  # without types: DSPy lives in a Python of its own
        """A model whose every answer is noted, also where DSPy works with copies of it."""

        def update_history(self, entry: dict[str, Any]) -> None:
            billed.append({"role": self.potstill_role, **usage_of(entry)})
            super().update_history(entry)

    def model(role: str) -> Any:
        found = job[role]
        made = Billed(
            f"openai/{found['model']}",
            api_base=found["base_url"],
            api_key=os.environ.get(found["key_variable"] or "", "none"),
            temperature=found["temperature"],
            max_tokens=found["max_tokens"],
            cache=False,
            num_retries=2,
            engine="litellm",
        )
        made.potstill_role = role
        return made

    student, teacher = model("student"), model("teacher")
    dspy.configure(lm=student)
    program = dspy.Predict(dspy.Signature("material, question -> answer", job["instructions"]))

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return parent.grade(example.id, str(prediction.answer or ""))

    def examples(rows: list[dict[str, str]]) -> list[Any]:
        return [dspy.Example(**row).with_inputs("material", "question") for row in rows]

    def answers(which: Any) -> list[dict[str, Any]]:
        found = []
        for row in job["test"]:
            before = len(billed)
            try:
                answer, error = str(which(material=row["material"], question=row["question"]).answer or ""), ""
            except Exception as problem:  # an answer that DSPy cannot read is a wrong one, not the end
                answer, error = "", f"{type(problem).__name__}: {problem}"[:500]
            found.append({"id": row["id"], "answer": answer, "error": error, "calls": billed[before:]})
        return found

    own = answers(program)
    before = len(billed)
    optimizer = dspy.MIPROv2(
        metric=metric,
        prompt_model=teacher,
        task_model=student,
        teacher_settings={"lm": teacher},
        auto=job["auto"],
        num_candidates=None if job["auto"] else job["candidates"],
        max_bootstrapped_demos=job["demos"],
        max_labeled_demos=job["demos"],
        num_threads=1,
        max_errors=1_000_000,
        seed=job["seed"],
    )
    better = optimizer.compile(
        program,
        trainset=examples(job["train"]),
        valset=examples(job["valid"]),
        num_trials=None if job["auto"] else job["trials"],
        minibatch=len(job["valid"]) > 35,
    )
    learning = billed[before:]
    parent.say(
        {
            "own": own,
            "best": answers(better),
            "learning": learning,
            "instructions": better.signature.instructions,
            "demos": [dict(demo) for demo in better.demos],
            "versions": {name: version(name) for name in ("dspy", "litellm")},
        }
    )


def usage_of(entry: dict[str, Any]) -> dict[str, int | None]:
    usage = entry.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") if isinstance(details, dict) else getattr(details, "cached_tokens", None)
    return {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens"), "cached": cached}


if __name__ == "__main__":
    main()
