"""Data on stdout: a table on a terminal, tab-separated in a pipe, JSON on request; progress on stderr."""

from __future__ import annotations

import json

import pytest
from terminal import ANSI, in_pipe, in_terminal, plain

from potstill.cli.output import progress, visible

TABLE = """
from potstill.cli.output import emit_table
emit_table(["arm", "cost_usd", "success"], [["zero-shot", 0.1234567, None], ["a\\tb\\nc", 2.0, True]],
           json_mode={json_mode}, title="Arms [1]")
"""


def test_a_pipe_gets_tab_separated_lines() -> None:
    done = in_pipe(TABLE.format(json_mode=False))
    assert done.stdout == "arm\tcost_usd\tsuccess\nzero-shot\t0.123457\t\na\\tb\\nc\t2.0\ttrue\n"
    assert done.stderr == ""


FLOATS = """
from potstill.cli.output import emit_table
row = [0.1 + 0.2, 2 / 3e5, 123456789.125, -1234567.5, 1e-12, 1.5e20, float("inf"), float("nan")]
emit_table([f"c{n}" for n in range(len(row))], [row], json_mode=False)
emit_table([f"c{n}" for n in range(6)], [row[:6]], json_mode=True)
"""


def test_a_pipe_gets_six_digits_of_a_number_and_json_all() -> None:
    _, cells, *rest = in_pipe(FLOATS).stdout.splitlines()
    assert cells.split("\t") == ["0.3", "6.66667e-06", "123456789.0", "-1234568.0", "1e-12", "1.5e+20", "inf", "nan"]
    (row,) = json.loads("".join(rest))
    assert list(row.values()) == [0.1 + 0.2, 2 / 3e5, 123456789.125, -1234567.5, 1e-12, 1.5e20]


def test_json_is_a_list_of_objects_and_unknown_is_null() -> None:
    rows = json.loads(in_pipe(TABLE.format(json_mode=True)).stdout)
    assert rows == [
        {"arm": "zero-shot", "cost_usd": 0.1234567, "success": None},
        {"arm": "a\tb\nc", "cost_usd": 2.0, "success": True},
    ]


def test_a_terminal_gets_a_table_for_people() -> None:
    shown = plain(in_terminal(TABLE.format(json_mode=False)))
    assert "Arms [1]" in shown, "a title is text, not markup"
    assert "zero-shot" in shown
    assert "0.1235" in shown
    assert "0.1234567" not in shown
    assert "\t" not in shown


NARROW = """
from potstill.cli.output import emit_table
emit_table(["arm", "success_ci", "cost_of_pass_usd", "steps_mean"],
           [["context+cascade", "0.21 to 0.94", 0.5, 3.25]], json_mode=False, left_out_first=["steps_mean"])
"""


def test_a_narrow_terminal_wraps_headings_then_leaves_columns_out_and_says_so() -> None:
    wide, narrow, least = (plain(in_terminal(NARROW, COLUMNS=width)).splitlines() for width in ("80", "58", "49"))
    assert ["arm", "success_ci", "cost_of_pass_usd", "steps_mean"] in [line.split() for line in wide]
    assert "_" not in "".join(narrow)
    row = ["context+cascade", "0.21", "to", "0.94", "0.5", "3.25"]
    assert row in [line.split() for line in narrow]
    assert row[:-1] in [line.split() for line in least]
    assert least[-1] == "left out on this narrow terminal, but there with --json and in a pipe: steps_mean"
    assert "left out" not in "".join(narrow)


def test_json_on_a_terminal_is_still_json() -> None:
    assert len(json.loads(plain(in_terminal(TABLE.format(json_mode=True))))) == 2


def test_no_color_leaves_no_colour() -> None:
    coloured = "\x1b[3"
    code = "import sys\nfrom potstill.cli.output import _console\n_console(sys.stdout).print('x', style='red')"
    assert coloured in in_terminal(code)
    assert coloured not in in_terminal(code, NO_COLOR="1")
    assert coloured in in_terminal(code, NO_COLOR=""), "an empty NO_COLOR means nothing"


@pytest.mark.parametrize("run", [in_terminal, lambda code: in_pipe(code).stdout], ids=["terminal", "pipe"])
def test_stored_text_cannot_command_the_terminal(run: object) -> None:
    code = (
        "from potstill.cli.output import emit_table, emit_text\n"
        "emit_table(['text'], [['\\x1b]0;owned\\x07\\x9b2J']], json_mode=False)\n"
        "emit_text('\\x1b[2Jdocument')"
    )
    received = run(code)  # type: ignore[operator]
    text = ANSI.sub("", received)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "\\x1b[2Jdocument" in text
    assert "\x1b[2J" not in received


PROGRESS = """
from potstill.cli.output import progress
with progress("demo", total=3, unit="episodes") as bar:
    for done in (1, 2, 3):
        bar.update(1, success=f"{done}/3", steps_per_s=1.23456)
"""


def test_stored_text_cannot_turn_the_direction_of_what_is_read() -> None:
    assert visible("safe \u202egnp.exe\u2066 \x1b") == "safe \\u202egnp.exe\\u2066 \\x1b"
    assert visible("\u05d0\u05d1 \u0645") == "\u05d0\u05d1 \u0645", "other scripts are only text"


def test_progress_on_a_terminal_is_a_bar() -> None:
    shown = plain(in_terminal(PROGRESS))
    assert "3/3 episodes" in shown
    assert "success 3/3, steps per s 1.235" in shown


def test_progress_in_a_log_is_its_last_line_and_never_on_stdout() -> None:
    done = in_pipe(PROGRESS)
    assert done.stdout == ""
    assert done.stderr == "demo: 3/3 episodes success 3/3, steps per s 1.235\n"


def test_progress_in_a_log_speaks_periodically_and_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with progress("teacher", total=4, unit="episodes", every_s=10, clock=lambda: now[0]) as bar:
        for _ in range(4):
            now[0] += 60
            bar.update(1)
    assert capsys.readouterr().err.splitlines() == [
        "teacher: 1/4 episodes, 3 min left",
        "teacher: 2/4 episodes, 2 min left",
        "teacher: 3/4 episodes, 60 s left",
        "teacher: 4/4 episodes",
    ]


def test_progress_without_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("download", unit="MB") as bar:
        bar.update(2.5)
    assert capsys.readouterr().err == "download: 2.5 MB\n"
    assert "2/? MB" in plain(
        in_terminal(
            "from potstill.cli.output import progress\nwith progress('d', unit='MB') as bar:\n    bar.update(2)"
        )
    )
