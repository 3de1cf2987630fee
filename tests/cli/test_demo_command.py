"""What ``potstill demo`` puts together; the whole of it runs with ``make demo``."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from potstill.cli import demo as module
from potstill.cli.main import main
from potstill.cli.output import emit_json, emit_table, json_option

ANY = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command(context_settings=ANY)
def prints_a_table() -> None:
    """Stands for the commands that record: they print what they did."""
    emit_table(("arm", "episodes"), [("context", 3)], json_mode=False)


@click.command(context_settings=ANY)
@json_option
def prints_what_was_measured(json_mode: bool) -> None:
    emit_json({"schema": 1}) if json_mode else emit_table(("arm",), [("context",)], json_mode=False)


@pytest.mark.parametrize("json_mode", [True, False])
def test_with_json_stdout_is_one_document(
    json_mode: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "distill_context", prints_a_table)
    monkeypatch.setattr(module, "run", prints_a_table)
    monkeypatch.setattr(module, "measure", prints_what_was_measured)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--dir", str(tmp_path / "d"), *(["--json"] if json_mode else [])])
    captured = capsys.readouterr()
    assert not ended.value.code
    if json_mode:
        assert json.loads(captured.out) == {"schema": 1}
        assert captured.err.count("context\t3") == 2
    else:
        assert captured.out == "arm\tepisodes\ncontext\t3\n" * 2 + "arm\ncontext\n"
