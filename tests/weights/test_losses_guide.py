"""The guide's example runs, and the bench's numbers are those that the guide speaks of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'potstill[weights]'")

import losses as bench  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "losses.md"
RESULT = json.loads((ROOT / "bench" / "results" / "losses.json").read_text(encoding="utf-8"))


def test_the_guide_s_example_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102
    slopes = names["logits"].grad
    assert slopes[1, 2] == 0
    assert bool((slopes[0] != 0).all())


@pytest.mark.parametrize("part", [bench.gradients, bench.divisors, bench.mistakes], ids=lambda part: part.__name__)
def test_the_quick_parts_of_the_bench_come_out_as_written(part: Callable[[], list[dict[str, object]]]) -> None:
    for made, written in zip(part(), RESULT[part.__name__], strict=True):
        assert made.keys() == written.keys()
        for key, value in written.items():
            assert made[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3))


def test_the_snippet_plays_the_square_of_the_teacher_at_a_temperature_of_two() -> None:
    """By hand: .01, .36 and .09 over .46."""
    (row,) = [row for row in RESULT["rows"] if (row["loss"], row["temperature"]) == ("snippet 1", 2.0)]
    assert row["plays"] == pytest.approx([0.01 / 0.46, 0.36 / 0.46, 0.09 / 0.46], abs=1e-4)
    assert all(own["plays"] == [0.1, 0.6, 0.3] for own in RESULT["rows"] if own["loss"].startswith("potstill"))
