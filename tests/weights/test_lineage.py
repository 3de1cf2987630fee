"""Lineage: whatever is changed in a file, its manifest or its past is found, and what was not is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import policy_files as files
from potstill.distill.weights import artefact
from potstill.distill.weights.lineage import (
    Dataset,
    Manifest,
    Parent,
    Teacher,
    beside,
    created,
    parent,
    read,
    write_beside,
)
from potstill.distill.weights.lineage_sign import public_key
from potstill.distill.weights.lineage_verify import Status, Verification, verify
from potstill.edge import seal, tensors
from potstill.edge.policy import open_policy
from potstill.errors import ConfigError, StoreError
from potstill.models.rule_list import FORMAT, Certificate, Condition, Of, Rule, RuleList, rules_sha256

TOLD = Manifest(
    created="2026-11-22T00:00:00Z",
    teachers=(Teacher(model="expert", decisions=12, prompts_sha256=("ab" * 32,)),),
    datasets=(Dataset(name="train", sha256="cd" * 32, decisions=12),),
    configuration={"seed": 3, "loss": "kl"},
    metrics={"agreement": 0.93},
)


def test_no_clock_gets_into_a_file_unless_somebody_asks() -> None:
    assert created({}) == created({"SOURCE_DATE_EPOCH": ""}) == ""
    assert created({"SOURCE_DATE_EPOCH": "1700000000"}) == "2023-11-14T22:13:20+00:00"
    for wrong in ("now", "1.5", "9" * 30):
        with pytest.raises(ConfigError, match=r"SOURCE_DATE_EPOCH is '.*unset it"):
            created({"SOURCE_DATE_EPOCH": wrong})


def write(path: Path, manifest: Manifest = TOLD, **options: Any) -> artefact.Artefact:
    seed = int(options.pop("seed", 0))
    return artefact.write(path, files.ranker_arrays(seed=seed), files.RANKER, manifest, **options)


def changed(found: Verification) -> list[tuple[str, str]]:
    return [(Path(one.file).name, one.part) for one in found.findings if one.status is Status.CHANGED]


def test_what_was_written_is_read_and_verified(tmp_path: Path) -> None:
    written = write(tmp_path / "a.safetensors")
    found = read(tmp_path / "a.safetensors")
    assert found.manifest == written.manifest
    assert found.sha256 == written.manifest_sha256
    assert found.manifest.teachers == TOLD.teachers
    assert found.manifest.kind == "ranker"
    assert verify([tmp_path / "a.safetensors"]).complete
    assert written.size_bytes == (tmp_path / "a.safetensors").stat().st_size


def test_equal_contents_are_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    arrays = dict(reversed(files.ranker_arrays().items()))
    artefact.write(tmp_path / "b", arrays, dict(reversed(files.RANKER.items())), TOLD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flip_of_any_byte_is_found(tmp_path: Path) -> None:
    """Every byte of the header's end and of a drawn hundred of the rest, one bit each."""
    path = tmp_path / "a"
    write(path)
    whole = path.read_bytes()
    picked = np.random.default_rng(1).choice(len(whole), 120, replace=False).tolist()
    start = whole.index(b'"potstill.manifest"')
    for place in [*range(16), *range(start, start + 60), *picked, len(whole) - 1]:
        data = bytearray(whole)
        data[place] ^= 1 << (place % 7)
        path.write_bytes(data)
        assert not verify([path]).passed, f"byte {place} of {len(whole)}: {whole[place - 10 : place + 10]!r}"
    path.write_bytes(whole + b"\0")
    assert not verify([path]).passed
    path.write_bytes(whole[:-1])
    assert not verify([path]).passed


def rewritten(path: Path, change: Any) -> None:
    arrays, texts = tensors.read(path)
    change(arrays, texts)
    path.write_bytes(tensors.to_bytes(arrays, texts))


def test_each_part_that_was_changed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def array(arrays: Any, texts: Any) -> None:
        arrays["score.bias"] = arrays["score.bias"] + np.float32(1)

    def configuration(arrays: Any, texts: Any) -> None:
        texts[seal.CONFIG] = texts[seal.CONFIG].replace('"ages":3', '"ages":4')

    def teacher(arrays: Any, texts: Any) -> None:
        texts[seal.MANIFEST] = texts[seal.MANIFEST].replace('"expert"', '"someone"')

    def stranger(arrays: Any, texts: Any) -> None:
        texts["note"] = "trust me"

    for change, part in [
        (array, "arrays"),
        (configuration, "configuration"),
        (teacher, "manifest"),
        (stranger, "metadata"),
    ]:
        write(path)
        rewritten(path, change)
        assert changed(verify([path])) == [("a", part)]


def test_a_file_that_another_program_wrote_anew_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length])).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert changed(verify([path])) == [("a", "layout")]


def chain(folder: Path, length: int = 3) -> list[Path]:
    paths: list[Path] = []
    for number in range(length):
        path = folder / f"student-{number}.safetensors"
        parents = tuple(parent(one) for one in paths[-1:])
        write(path, msgspec.structs.replace(TOLD, parents=parents), seed=number)
        paths.append(path)
    return paths


def test_a_chain_is_followed_to_its_beginning(tmp_path: Path) -> None:
    paths = chain(tmp_path)
    found = verify(paths[-1:])
    assert found.complete
    assert {Path(one.file).name for one in found.findings} == {path.name for path in paths}


def test_a_long_chain_needs_no_deep_stack(tmp_path: Path) -> None:
    first = write(tmp_path / "0")
    told = Parent(name="0", manifest_sha256=first.manifest_sha256)
    for number in range(1, 500):
        (tmp_path / f"{number}").write_bytes(b"x")
        manifest = Manifest(parents=(told,), file_sha256="")
        path = write_beside(tmp_path / f"{number}", manifest)
        told = Parent(name=f"{number}", manifest_sha256=json.loads(path.read_text())[seal.SEAL])
    assert verify([tmp_path / "499"]).complete


def test_a_parent_that_was_changed_is_found_from_its_child(tmp_path: Path) -> None:
    paths = chain(tmp_path)
    rewritten(paths[0], lambda arrays, texts: texts.update({seal.MANIFEST: texts[seal.MANIFEST] + " "}))
    assert changed(verify(paths[-1:])) == [
        ("student-1.safetensors", "parent student-0.safetensors"),
        (paths[0].name, "manifest"),
    ]


def test_a_parent_that_was_made_anew_with_right_hashes_is_found(tmp_path: Path) -> None:
    paths = chain(tmp_path)
    write(paths[1], TOLD, seed=9)
    assert changed(verify(paths[-1:])) == [("student-2.safetensors", "parent student-1.safetensors")]


def test_a_parent_elsewhere_is_absent_until_it_is_given(tmp_path: Path) -> None:
    paths = chain(tmp_path, 2)
    (tmp_path / "far").mkdir()
    moved = paths[0].rename(tmp_path / "far" / "renamed")
    found = verify(paths[1:])
    assert found.passed
    assert not found.complete
    assert verify([paths[1], moved]).complete


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "a/b"])
def test_a_parents_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in").mkdir()
    manifest = msgspec.structs.replace(TOLD, parents=(Parent(name=name, manifest_sha256="0" * 64),))
    write(tmp_path / "in" / "a", manifest)
    assert [one.status for one in verify([tmp_path / "in" / "a"]).findings if "parent" in one.part] == [Status.ABSENT]


def test_a_file_of_another_format_has_its_manifest_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(b"\x08\x09 some graph")
    (teacher,) = chain(tmp_path, 1)
    write_beside(path, msgspec.structs.replace(TOLD, parents=(parent(teacher),)))
    assert verify([path]).complete
    path.write_bytes(b"\x08\x09 other graph")
    assert changed(verify([path])) == [("student.onnx", "file")]
    said = json.loads(beside(path).read_text())
    beside(path).write_text(json.dumps({**said, seal.MANIFEST: said[seal.MANIFEST].replace("expert", "nobody")}))
    assert ("student.onnx", "manifest") in changed(verify([path]))
    for text in ("{", "[]", "{}", '{"potstill.manifest": 3}', '{"potstill.manifest": "[]"}'):
        beside(path).write_text(text)
        assert not verify([path]).passed


def test_rules_are_checked_by_their_certificate(tmp_path: Path) -> None:
    """An untouched file of rules once was "changed", with a header of 7886488381929032315 bytes."""
    path = tmp_path / "house.rules.json"
    rules = (Rule(when=(Condition(of=Of.GOAL, has="museum"), Condition(has="dry it"))),)
    proof = Certificate(
        rules_sha256=rules_sha256(rules), tasks=60, wrong=0, lower=0.951, precision=0.95, confidence=0.95, share=0.5
    )
    whole = msgspec.json.encode(RuleList(rules=rules, certificate=proof), order="deterministic")
    told = msgspec.json.decode(whole) | {"format": FORMAT, "version": 1}
    path.write_text(json.dumps(told, indent=1))
    assert [(one.part, one.status) for one in verify([path]).findings] == [("rules", Status.OK)]
    assert changed(verify([path], keys=["0" * 64])) == [(path.name, "signature")]
    path.write_text(json.dumps(told).replace("dry it", "wash it"))
    assert changed(verify([path])) == [(path.name, "rules")]
    path.write_text(json.dumps(told)[:-1])
    assert changed(verify([path])) == [(path.name, "rules")]
    path.write_text(json.dumps({name: value for name, value in told.items() if name != "certificate"}))
    (finding,) = verify([path]).findings
    assert (finding.status, "have no certificate" in finding.detail) == (Status.CHANGED, True)


@pytest.mark.parametrize("data", [b"", b"GGUF", tensors.to_bytes({"x": np.zeros(2, np.float32)}, {"a": "b"})])
def test_a_file_without_lineage_never_passes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert not verify([tmp_path / "x"]).passed
    with pytest.raises(ConfigError):
        read(tmp_path / "x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        verify([tmp_path / "x"])


def test_a_manifest_of_a_later_version_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path)
    rewritten(
        path,
        lambda arrays, texts: texts.update({seal.MANIFEST: texts[seal.MANIFEST].replace('"version":1', '"version":2')}),
    )
    with pytest.raises(ConfigError, match="version 2"):
        read(path)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    pytest.importorskip("cryptography", reason="pip install cryptography: signatures")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    return private, public_key(public)


def test_a_signature_vouches_for_the_manifest(tmp_path: Path, keys: tuple[Path, str]) -> None:
    private, public = keys
    path = tmp_path / "a"
    write(path, key=private)
    assert open_policy(path).manifest["signer"] == public
    assert verify([path]).complete
    assert verify([path], keys=[public]).complete
    assert changed(verify([path], keys=["00" * 32])) == [("a", "signature")]

    def forged(arrays: Any, texts: Any) -> None:
        """All hashes made anew: only the signature tells."""
        text = texts[seal.MANIFEST].replace('"expert"', '"someone"')
        texts |= {seal.MANIFEST: text, seal.SEAL: seal.text_sha256(text)}

    rewritten(path, forged)
    assert changed(verify([path])) == [("a", "signature")]


def test_a_signature_that_was_taken_out_or_is_another_ones(tmp_path: Path, keys: tuple[Path, str]) -> None:
    private, public = keys
    for name, value in [("stripped", None), ("nonsense", "{}"), ("text", "x"), ("list", "[1]")]:
        write(tmp_path / name, key=private)
        rewritten(
            tmp_path / name,
            lambda arrays, texts, value=value: (
                texts.pop(seal.SIGNATURE) if value is None else texts.update({seal.SIGNATURE: value})
            ),
        )
        assert changed(verify([tmp_path / name])) == [(name, "signature")]
    write(tmp_path / "unsigned")
    assert verify([tmp_path / "unsigned"]).complete
    assert changed(verify([tmp_path / "unsigned"], keys=[public])) == [("unsigned", "signature")]


def test_what_is_no_key(tmp_path: Path, keys: tuple[Path, str]) -> None:
    (tmp_path / "x.pem").write_text("hello")
    for path, says in [(tmp_path / "x.pem", "not a key"), (tmp_path / "none.pem", "No such file")]:
        with pytest.raises(ConfigError, match=says):
            write(tmp_path / "a", key=path)
    with pytest.raises(ConfigError, match="not a key"):
        public_key(keys[0])
    assert not (tmp_path / "a").exists()


def test_without_cryptography_one_line_says_what_to_type(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path\nfrom potstill.distill.weights.lineage_sign import Signer\n"
        "from potstill.errors import MissingExtra\n"
        "try: Signer(Path('key.pem'))\nexcept MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "A signature needs the extra 'sign'. Type: pip install 'potstill[sign]'"


@pytest.mark.parametrize("where", ["arrays", "config", "manifest", "nan"])
def test_what_is_no_policy_is_not_written(tmp_path: Path, where: str) -> None:
    arrays, config, manifest = files.ranker_arrays(), dict(files.RANKER), TOLD
    if where == "arrays":
        arrays["text.bias"] = np.full(8, np.nan, np.float32)
    elif where == "config":
        config["width"] = 9
    elif where == "nan":
        config["note"] = float("nan")
    else:
        manifest = msgspec.structs.replace(TOLD, metrics={"loss": float("nan")})
    with pytest.raises(ConfigError):
        artefact.write(tmp_path / "a", arrays, config, manifest)
    assert os.listdir(tmp_path) == []


def test_a_refusal_or_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path)
    before = path.read_bytes()

    def refuse(policy: Any) -> dict[str, Any]:
        assert policy.config["kind"] == "ranker"
        raise KeyError("no")

    with pytest.raises(KeyError):
        write(path, seed=4, approve=refuse)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(StoreError, match="No such file"):
        write(tmp_path / "none" / "a")


def test_double_precision_is_written_as_single(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float64) for name, array in files.ranker_arrays().items()}
    artefact.write(tmp_path / "a", arrays, files.RANKER, TOLD)
    write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
