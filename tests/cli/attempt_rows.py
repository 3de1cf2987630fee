"""Files of attempts for the tests of ``replay`` and ``calibrate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def row(task: str, model: str, answer: str | None, success: bool | None, usd: float | None, **more: Any) -> Row:
    return {"task_id": task, "model": model, "answer": answer, "success": success, "cost_usd": usd, **more}


def stream(n: int, wrong: int = 0, split: int = 0, *, start: int = 0, teacher: bool = True) -> list[Row]:
    """Tasks of three samples: unanimous ones of which the first ``wrong`` are wrong, then ``split`` ones, two wrong.

    The teacher is right at all of them. A sample costs $0.001, the teacher $0.01.
    """
    rows = []
    for task in range(start, start + n + split):
        number = task - start
        bad = number < wrong
        answers = ["b", "b", "a"] if number >= n else [("b" if bad else "a")] * 3
        rows += [row(f"t{task}", "small", a, a == "a", 0.001, sample=k) for k, a in enumerate(answers)]
        if teacher:
            rows.append(row(f"t{task}", "large", "a", True, 0.01))
    return rows


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return str(path)
