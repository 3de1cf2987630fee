"""The report: everything is escaped, nothing is fetched, numbers are those of the measurement."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from measure_builders import DATE, STUDENT, call, episode, step, usage

from potstill.errors import ConfigError, MissingExtra
from potstill.measure.measurement import Measurement, Options
from potstill.measure.plot import write_plot
from potstill.measure.prices import PriceTable
from potstill.measure.report import render_html
from potstill.measure.summary import summarise
from potstill.types import Answerer, Decision, Reason, Trajectory, TrajectoryKind, Vote

EVIL = '<script>alert(1)</script>$x_1$ & "quoted" \'</style>'
VOID = {"meta", "br", "link", "img", "path", "use"}


class Checker(HTMLParser):
    """Collects tags, attributes and text; notices tags that are never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name.split(":")[-1] in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def student(arm: str, task: int, *, success: bool) -> Trajectory:
    votes = (Vote(key="go north", text="go north"), Vote(key=None, text=EVIL))
    decision = Decision(answerer=Answerer.STUDENT, reason=Reason.AGREED, votes=votes, samples=2)
    plain = step(0, Answerer.STUDENT, (call(STUDENT, Answerer.STUDENT, usage()),))
    steps = (type(plain)(**{name: getattr(plain, name) for name in plain.__struct_fields__} | {"decision": decision}),)
    return episode(arm, task, success=success, kind=TrajectoryKind.STUDENT, steps=steps, goal=EVIL)


@pytest.fixture(scope="module")
def measured() -> Measurement:
    teacher = [episode("teacher", i, success=i < 9) for i in range(10)]
    students = [student(EVIL, i, success=i < 4) for i in range(10)]
    return summarise([*teacher, *students], PriceTable.load(date=DATE), Options(examples=4))


def test_nothing_from_outside_and_nothing_unescaped(measured: Measurement) -> None:
    pytest.importorskip("matplotlib", reason="needs: pip install 'potstill[report]'")
    html = render_html(measured, command=f"potstill measure --arm {EVIL}")
    found = checked(html)
    assert "script" not in found.tags
    assert all(link.startswith("#") for link in found.links)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert any(EVIL in text for text in found.text)


def test_the_report_says_what_was_measured(measured: Measurement) -> None:
    text = " ".join(checked(render_html(measured, command="potstill measure --db x.db")).text)
    for said in ("teacher", "$0.00333", "90.0 %", "pp", f"Prices of {DATE}", "potstill measure --db x.db", "votes:"):
        assert said in text, said
    assert len(measured.examples) == 7  # the teacher failed once only
    assert "room 0" in text


def test_without_matplotlib_the_table_stays_and_says_what_to_install(
    measured: Measurement, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    html = render_html(measured)
    assert "pip install &#x27;potstill[report]&#x27;" in html
    assert "<table>" in html
    with pytest.raises(MissingExtra):
        write_plot(measured, tmp_path / "plot.png")


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plots_are_files_of_their_kind_and_repeatable(
    measured: Measurement, tmp_path: Path, ending: str, magic: bytes
) -> None:
    pytest.importorskip("matplotlib", reason="needs: pip install 'potstill[report]'")
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    write_plot(measured, first)
    write_plot(measured, second)
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()


def test_names_in_a_plot_do_not_overlap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Six arms at almost the same place, and one in each far corner."""
    pytest.importorskip("matplotlib", reason="needs: pip install 'potstill[report]'")
    from matplotlib.axes import Axes

    drawn: list[Any] = []
    original = Axes.annotate
    monkeypatch.setattr(Axes, "annotate", lambda *a, **k: drawn.append(original(*a, **k)) or drawn[-1])
    crowd = [episode(f"context+cascade@mode-{i}", task, success=task > 2) for i in range(6) for task in range(9)]
    corners = [episode("always", 0), episode("never", 0, success=False, kind=TrajectoryKind.STUDENT)]
    write_plot(summarise([*crowd, *corners], PriceTable.load(date=DATE)), tmp_path / "plot.png")
    boxes = [name.get_window_extent() for name in drawn]
    frame = drawn[0].axes.get_window_extent()
    assert len(boxes) == 8
    assert [a for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)] == []
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 for box in boxes)


def test_a_plot_needs_an_ending_that_can_be_drawn(measured: Measurement, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\.gif'.*\.png, \.svg, \.pdf"):
        write_plot(measured, tmp_path / "plot.gif")
