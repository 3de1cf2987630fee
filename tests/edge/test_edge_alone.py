"""The runtime by itself: its folder copied elsewhere, with nothing but numpy to import, decides as it does here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import policy_files as files
import potstill.edge
from potstill.edge import seal, tensors
from potstill.edge.act import answered, decide
from potstill.edge.policy import log_softmax, open_policy
from potstill.edge.tensors import BadFile

SOURCE = Path(potstill.edge.__file__).parent
QUESTION = {**files.SITUATION, "admissible": files.ACTIONS}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where Python finds the standard library, numpy and a copy of the runtime, and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(SOURCE, folder / "edge", ignore=shutil.ignore_patterns("__pycache__"))
    packages = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    return folder


def python(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n" + arguments[0]]
    return subprocess.run([*command, *arguments[1:]], capture_output=True, text=True, check=False, **options)


RUN = "import runpy; sys.argv[0] = 'edge'; runpy.run_module('edge', run_name='__main__')"


def test_it_imports_numpy_and_the_standard_library_only(alone: Path) -> None:
    code = (
        "import edge.__main__, json, sysconfig\n"
        "print(json.dumps({name: getattr(module, '__file__', None) for name, module in sys.modules.items()}))"
    )
    done = python(alone, code)
    assert done.returncode == 0, done.stderr
    library = sysconfig.get_path("stdlib")
    strangers = {
        name: origin
        for name, origin in json.loads(done.stdout).items()
        if origin and name.split(".")[0] not in ("edge", "numpy") and not origin.startswith(library)
    }
    assert strangers == {}


def test_its_code_is_small() -> None:
    assert sum(path.stat().st_size for path in SOURCE.glob("*.py")) < 100_000


def test_it_decides_as_here_through_standard_input(alone: Path, tmp_path: Path) -> None:
    path = files.write_policy(tmp_path / "ranker.safetensors")
    lines = [json.dumps({**QUESTION, "id": 7}), "", "{", json.dumps({**QUESTION, "past": []})]
    done = python(alone, RUN, str(path), input="\n".join(lines))
    assert done.returncode == 2, "one question was not JSON"
    first, broken, last = map(json.loads, done.stdout.splitlines())
    policy = open_policy(path)
    assert first == {"id": 7, **decide(policy, QUESTION)}
    assert "not JSON" in broken["error"]
    assert last == decide(policy, {**QUESTION, "past": []})


def test_a_file_that_is_no_policy(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    done = python(alone, RUN, str(tmp_path / "x"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def address(alone: Path, tmp_path: Path) -> Iterator[str]:
    path = files.write_policy(tmp_path / "mlp.safetensors", config={**files.MLP, "actions": ["left", "stay", "right"]})
    code = f"import sys; sys.path.insert(0, {str(alone)!r})\n" + RUN
    command = [sys.executable, "-I", "-S", "-c", code, str(path), "--http", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield line.removeprefix("POST ").strip()
        process.terminate()


def post(address: str, body: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=120) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_serves_http_to_this_machine_only(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    status, found = post(address, b'{"vector": [0.1, 0.2, 0.3, 0.4]}')
    assert status == 200
    assert found["action"] in ("left", "stay", "right")
    assert sum(found["probabilities"]) == pytest.approx(1)
    for body, says in [(b"", "not JSON"), (b"[]", "must be an object"), (b'{"vector": [1]}', "takes 4 numbers")]:
        status, found = post(address, body)
        assert status == 400
        assert says in found["error"]
    assert post(address.replace("/act", "/other"), b"{}")[0] == 404
    with urllib.request.urlopen(address.replace("/act", "/health"), timeout=120) as reply:
        assert json.load(reply) == {"kind": "mlp", "parameters": 4 * 16 + 16 + 16 * 3 + 3}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /act HTTP/1.1\r\nHost: a\r\n\r\n", b"411"),
        (b"POST /act HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST /act HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"PUT /act HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_a_request_without_a_usable_body(address: str, head: bytes, status: bytes) -> None:
    port = int(address.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(head)
        assert status in connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({}, "admissible"),
        ({"admissible": []}, "one at least"),
        ({"admissible": "go"}, "admissible"),
        ({"admissible": ["go", 1]}, "admissible"),
        ({"admissible": ["go"] * 10_001}, "10001 admissible"),
        ({"admissible": ["go"], "goal": 1}, "goal and observation"),
        ({"admissible": ["go"], "past": {}}, "past must be"),
        ({"admissible": ["go"], "past": [{"action": "go"}]}, "past must be"),
        ({"admissible": ["go"], "past": ["go"]}, "past must be"),
        (
            {"admissible": ["go"], "situation": {"goal": "mug"}},
            "a field 'situation'. This policy reads: goal, observation",
        ),
    ],
)
def test_a_question_that_a_ranker_cannot_use(tmp_path: Path, question: dict[str, Any], says: str) -> None:
    policy = open_policy(files.write_policy(tmp_path / "p"))
    assert says in answered(policy, json.dumps(question))["error"]


@pytest.mark.parametrize(
    "text",
    [
        '{"vector": "1"}',
        '{"vector": [1, 2, NaN, 4]}',
        '{"vector": [true, 1, 1, 1]}',
        '{"vector": [1e400, 1, 1, 1]}',
        '{"vector": [3e38, 3e38, 3e38, 3e38]}',
        '{"vector": [1' + "0" * 400 + ", 1, 1, 1]}",
        '{"vector": [1' + "0" * 5000 + ", 1, 1, 1]}",
        '{"vector": [[1], [2], [3], [4]]}',
        "[" * 100_000,
        "null",
    ],
)
def test_a_question_that_a_perceptron_cannot_use(tmp_path: Path, text: str) -> None:
    policy = open_policy(files.write_policy(tmp_path / "p", config={**files.MLP, "activation": "relu"}))
    assert list(answered(policy, text)) == ["error"]


def test_the_temperature_of_a_file_sharpens_its_probabilities_and_no_decision(tmp_path: Path) -> None:
    plain = decide(open_policy(files.write_policy(tmp_path / "a")), QUESTION)
    soft = decide(open_policy(files.write_policy(tmp_path / "b", config={**files.RANKER, "temperature": 4})), QUESTION)
    assert soft["action"] == plain["action"]
    logits = np.log(plain["probabilities"])
    assert soft["probabilities"] == pytest.approx(np.exp(log_softmax(logits / 4)).tolist())


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), "1", True])
def test_a_temperature_that_is_none(tmp_path: Path, temperature: Any) -> None:
    if temperature == float("inf"):
        with pytest.raises(ValueError, match="not JSON compliant"):
            seal.canonical({"temperature": temperature})
        return
    path = files.write_policy(tmp_path / "p", config={**files.RANKER, "temperature": temperature})
    with pytest.raises(BadFile, match="temperature"):
        open_policy(path)


@pytest.mark.parametrize("kind", [None, "film?", ["ranker"]])
def test_a_kind_that_this_version_does_not_know(tmp_path: Path, kind: Any) -> None:
    path = files.write_policy(tmp_path / "p", files.ranker_arrays(), {**files.RANKER, "kind": kind})
    with pytest.raises(BadFile, match="this version knows: film, mlp, ranker"):
        open_policy(path)


@pytest.mark.parametrize("part", [seal.CONFIG, seal.MANIFEST, seal.SEAL])
def test_a_stripped_or_changed_part_is_told(tmp_path: Path, part: str) -> None:
    arrays = files.ranker_arrays()
    said = files.texts(arrays, files.RANKER)
    for changed in ({name: text for name, text in said.items() if name != part}, {**said, part: said[part] + " "}):
        (tmp_path / "p").write_bytes(tensors.to_bytes(arrays, changed))
        with pytest.raises(BadFile, match=str(tmp_path / "p")):
            open_policy(tmp_path / "p")


def test_changed_arrays_are_told(tmp_path: Path) -> None:
    arrays = files.ranker_arrays()
    said = files.texts(arrays, files.RANKER)
    arrays["score.bias"] = arrays["score.bias"] + np.float32(1e-3)
    (tmp_path / "p").write_bytes(tensors.to_bytes(arrays, said))
    with pytest.raises(BadFile, match="arrays were changed"):
        open_policy(tmp_path / "p")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="is not a file"):
        open_policy(tmp_path / "pipe")


def test_logits_that_are_not_finite_are_an_error_and_no_decision(tmp_path: Path) -> None:
    arrays = files.ranker_arrays()
    arrays["hidden.weight"] = np.full_like(arrays["hidden.weight"], 3e38)
    found = answered(open_policy(files.write_policy(tmp_path / "p", arrays)), json.dumps(QUESTION))
    assert "not finite" in found["error"]
