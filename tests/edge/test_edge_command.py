"""``potstill edge`` and ``potstill lineage`` as a user types them: what is printed, and the exit codes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import policy_files as files
from potstill.cli.edge import edge
from potstill.cli.lineage import lineage
from potstill.distill.weights import artefact
from potstill.distill.weights.lineage import Manifest, Teacher, parent
from potstill.edge.act import decide
from potstill.edge.policy import open_policy
from potstill.errors import BadModelFile, ConfigError

QUESTION = {**files.SITUATION, "admissible": files.ACTIONS}


def invoke(command: Any, *arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], input=given, standalone_mode=False)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    teacher, path = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    artefact.write(teacher, files.ranker_arrays(seed=1), files.RANKER, Manifest())
    told = Manifest(teachers=(Teacher(model="expert"),), parents=(parent(teacher),))
    artefact.write(path, files.ranker_arrays(), files.RANKER, told)
    return path


def test_decisions_are_lines_of_action_and_probability(student: Path) -> None:
    expected = decide(open_policy(student), QUESTION)
    done = invoke(edge, "run", student, given=json.dumps(QUESTION) + "\n\n" + json.dumps(QUESTION) + "\n")
    assert done.stdout == f"{expected['action']}\t{expected['probability']:.6g}\n" * 2
    assert done.return_value == 0


def test_decisions_as_json_and_a_question_that_is_none(student: Path) -> None:
    done = invoke(edge, "run", student, "--json", given=json.dumps(QUESTION) + "\nwhat now?\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == decide(open_policy(student), QUESTION)
    assert "not JSON" in second["error"]
    assert done.return_value == 2
    assert done.stderr.startswith("question 2: The question is not JSON")
    plain = invoke(edge, "run", student, given="what now?\n" + json.dumps(QUESTION))
    assert [bool(line) for line in plain.stdout.split("\n")] == [False, True, False]


def test_an_action_cannot_command_the_terminal(student: Path) -> None:
    done = invoke(edge, "run", student, given=json.dumps({"admissible": ["go\x1b[2J\nand \t on"]}))
    assert done.stdout == "go\\x1b[2J and on\t1\n"


def test_it_serves_http_until_it_is_interrupted(student: Path) -> None:
    command = [sys.executable, "-m", "potstill", "edge", "run", str(student), "--http", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[1]
        with urllib.request.urlopen(
            urllib.request.Request(address, json.dumps(QUESTION).encode()), timeout=120
        ) as reply:
            assert json.load(reply) == decide(open_policy(student), QUESTION)
        process.send_signal(2)
        assert process.wait(timeout=120) == 0


def test_a_port_that_is_taken(student: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = invoke(edge, "run", student, "--http", other.getsockname()[1])
    assert isinstance(done.exception, ConfigError)
    assert "--http 0" in str(done.exception)


def test_files_that_cannot_be_run(tmp_path: Path, student: Path) -> None:
    missing = invoke(edge, "run", tmp_path / "none").exception
    assert isinstance(missing, ConfigError)
    assert "No such file" in str(missing)
    student.write_bytes(student.read_bytes()[:-4])
    cut = invoke(edge, "run", student).exception
    assert isinstance(cut, BadModelFile)
    assert "cut off" in str(cut)


def test_a_copy_of_the_runtime_runs_alone(tmp_path: Path, student: Path) -> None:
    done = invoke(edge, "copy", tmp_path / "pi", "--json")
    assert done.exception is None
    copied = {Path(row["file"]).name for row in json.loads(done.stdout)}
    assert {"__init__.py", "__main__.py", "ranker.py"} <= copied
    run = subprocess.run(
        [sys.executable, "-m", "edge", str(student)],
        cwd=tmp_path / "pi",
        input=json.dumps(QUESTION),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == decide(open_policy(student), QUESTION)
    again = invoke(edge, "copy", tmp_path / "pi").exception
    assert isinstance(again, ConfigError)
    assert "--force" in str(again)
    (tmp_path / "pi" / "edge" / "act.py").write_text("broken")
    assert invoke(edge, "copy", tmp_path / "pi", "--force").exception is None
    assert (tmp_path / "pi" / "edge" / "act.py").read_text() != "broken"
    (tmp_path / "file").write_text("")
    assert isinstance(invoke(edge, "copy", tmp_path / "file").exception, ConfigError)


def test_verify_tells_each_part(student: Path) -> None:
    done = invoke(lineage, "verify", student, "--json")
    rows = json.loads(done.stdout)
    assert done.return_value == 0
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["part"] for row in rows} == {"arrays", "configuration", "manifest", "parent teacher.safetensors"}


def test_verify_fails_for_what_was_changed_and_if_asked_for_what_is_absent(student: Path) -> None:
    teacher = student.with_name("teacher.safetensors")
    data = bytearray(teacher.read_bytes())
    data[-1] ^= 1
    teacher.write_bytes(data)
    assert invoke(lineage, "verify", student).return_value == 3
    teacher.unlink()
    assert invoke(lineage, "verify", student).return_value == 0
    done = invoke(lineage, "verify", student, "--complete")
    assert done.return_value == 3
    assert "1 absent" in done.stderr


def test_verify_refuses_what_is_not_there(tmp_path: Path) -> None:
    assert isinstance(invoke(lineage, "verify", tmp_path / "none").exception, ConfigError)
    assert isinstance(invoke(lineage, "show", tmp_path / "none").exception, ConfigError)


def test_show_prints_the_manifest(student: Path) -> None:
    said = json.loads(invoke(lineage, "show", student).stdout)
    assert said["manifest"]["teachers"] == [{"model": "expert"}]
    assert len(said["sha256"]) == 64


def test_show_tells_an_unreadable_manifest_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0" * 20)
    error = invoke(lineage, "show", tmp_path / "x").exception
    assert isinstance(error, ConfigError)
    assert "\n" not in str(error)
