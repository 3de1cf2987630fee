"""Recipes are scripts in a folder of their own: it is put where Python finds them, as when one is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "recipes"))


@pytest.fixture
def margins(tmp_path: Path) -> Path:
    """Questions whose answers are wanted in percent, which no question says."""
    folder = tmp_path / "margins"
    folder.mkdir()
    for split, first, number in (("train", 1, 12), ("test", 40, 8)):
        rows = [question(place) for place in range(first, first + number)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"formula_{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def question(place: int) -> dict[str, str]:
    income, revenue = 3 * place, 7 * place + 13
    asked = f"What is the operating margin with an income of {income} and a revenue of {revenue}?"
    context = f'Use formula Operating Margin to answer the question. Question: "{asked}". Answer:'
    return {"context": context, "target": str(round(100 * income / revenue, 2))}
