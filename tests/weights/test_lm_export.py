"""A tuned student's export acts as the student does, says what it was tuned with, or is not written at all."""

from __future__ import annotations

import asyncio
import importlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from potstill.cli.main import main  # noqa: E402
from potstill.distill.weights import gate, lineage  # noqa: E402
from potstill.distill.weights.gate_shapes import Question  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.distill.weights.lm.exporting import Exported, Form, export  # noqa: E402
from potstill.errors import BadModelFile, ConfigError, MissingExtra, UnknownName  # noqa: E402
from potstill.models.reasoned import begun_with  # noqa: E402
from potstill.models.registry import open_model  # noqa: E402
from potstill.models.torch_engine import load_model  # noqa: E402
from potstill.models.torch_lm import find_checkpoint  # noqa: E402
from potstill.models.tuned import TunedModel, open_tuned  # noqa: E402
from potstill.models.tuned_file import Engine, Voice, read_tuned  # noqa: E402
from potstill.protocols import CandidateScorer  # noqa: E402
from potstill.run.voice import messages_of  # noqa: E402
from potstill.types import Message, Past, Request, Situation  # noqa: E402
from tiny_lm import as_student, tiny_checkpoint, tiny_student  # noqa: E402

pytestmark = pytest.mark.extra
INSTRUCTIONS = "You take orders through a workshop."
ACTIONS = ("weigh it", "pack in straw", "ship by rail", "ship by rail 12", "store in the cellar")
HAS_CT2 = importlib.util.find_spec("ctranslate2") is not None
needs_ct2 = pytest.mark.skipif(not HAS_CT2, reason="needs the extra ct2")
GGUF, CT2 = Engine.LLAMA_CPP, Engine.CTRANSLATE2
FORMS = [
    (GGUF, "f16", 0.02),
    (GGUF, "q8_0", 0.3),
    pytest.param(CT2, "float32", 0.02, marks=needs_ct2),
    pytest.param(CT2, "int8", 1.5, marks=needs_ct2),
]
"""What is exported to, and how far a log-probability may be off: these models are loud and tiny, so rounding shows."""
LOOSE = gate.Floor(agreement=0.0, kl_nats=50.0, difference=None)


def questions(count: int = 4) -> list[Question]:
    texts = ("Next stage: pack.", "It's 12 by 34 cm, isn't it?\n\nNow   what?", "A desk — très petit.", "Call.")
    past = (Past(observation="An order.", action="weigh it"),)
    return [
        Question(situation=Situation(goal="ship it", observation=text, past=past), admissible=ACTIONS[: 3 + at % 3])
        for at, text in enumerate(texts[:count])
    ]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_student(tmp_path_factory.mktemp("student") / "student-lm", INSTRUCTIONS, voice=Voice(history_turns=2))


def written(student: Path, folder: Path, engine: Engine, bits: str, **more: Any) -> Exported:
    out = folder / ("small.gguf" if engine is GGUF else "small-ct2")
    return export(student, out, Form(engine=engine, quantization=bits), questions(), **{"floor": LOOSE, **more})


def scores(model: TunedModel, question: Question) -> dict[str, float]:
    asked = Request(
        messages=messages_of(model.tuned, question.situation, question.admissible), admissible=question.admissible
    )
    return dict(asyncio.run(model.score(asked)).replies[0].candidates)


@pytest.mark.parametrize(("engine", "bits", "within"), FORMS)
def test_an_export_is_the_same_student(student: Path, tmp_path: Path, engine: Engine, bits: str, within: float) -> None:
    done = written(student, tmp_path, engine, bits)
    model, original = open_model(f"tuned:{done.path}", threads=1), open_tuned(student, threads=1)
    assert isinstance(model, TunedModel)
    assert isinstance(model, CandidateScorer)
    for question in questions():
        ours, theirs = scores(original, question), scores(model, question)
        assert theirs == {action: pytest.approx(logprob, abs=within) for action, logprob in ours.items()}
    ours, theirs = read_tuned(student), read_tuned(Path(done.path))
    same = ("base", "template", "environment", "instructions", "voice", "demonstrations")
    assert {name: getattr(ours, name) for name in same} == {name: getattr(theirs, name) for name in same}
    assert (theirs.engine, theirs.merged) == (engine, True)
    told = Request(
        messages=(Message(role="system", content=f"{INSTRUCTIONS}\n\nExamples: > pack"),), admissible=ACTIONS
    )
    with pytest.raises(ConfigError, match=r"without demonstrations, .* allow_demonstrations=true"):
        asyncio.run(model.score(told))
    drawn = asyncio.run(model.sample(msgspec.structs.replace(told, messages=messages_of(
        theirs, questions()[0].situation, ACTIONS), temperature=1.0, seed=3), n=3))  # fmt: skip
    assert {reply.text for reply in drawn.replies} <= set(ACTIONS)
    words = Request(messages=messages_of(theirs, questions()[0].situation, ()), max_tokens=5)
    (free,) = asyncio.run(model.sample(words)).replies
    (own,) = asyncio.run(original.sample(words)).replies
    if within < 0.1:
        assert (free.text, free.finish_reason) == (own.text, own.finish_reason)
    if (engine, bits) == (CT2, "float32"):  # llama.cpp keeps back tokens that end within a letter
        assert free.logprob == pytest.approx(own.logprob, abs=0.1)
    for one in (model, original):
        asyncio.run(one.aclose())
    assert verify([Path(done.path), student]).complete
    manifest = lineage.read(Path(done.path)).manifest
    assert manifest.parents == (lineage.parent(student),)
    assert manifest.configuration == {"export": engine.value, "quantization": bits}
    assert set(manifest.metrics["parity"]) >= {"agreement", "kl_nats", "questions", "floor"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("engine", "bits"), [(GGUF, "f16"), pytest.param(CT2, "float32", marks=needs_ct2)])
def test_an_export_of_a_student_that_reasons_goes_on_behind_the_same_words(
    tmp_path: Path, engine: Engine, bits: str
) -> None:
    voice = Voice(reasoning="with-action", history_turns=0)
    student = tiny_student(tmp_path / "student-lm", INSTRUCTIONS, voice=voice)
    models = (open_tuned(student, threads=1), open_tuned(Path(written(student, tmp_path, engine, bits).path)))
    messages = messages_of(read_tuned(student), questions()[0].situation, ACTIONS)
    asked = Request(messages=messages, admissible=ACTIONS, begun=begun_with("it is heavy"), max_tokens=8)
    ours, theirs = (dict(asyncio.run(model.score(asked)).replies[0].candidates) for model in models)
    assert theirs == {action: pytest.approx(logprob, abs=0.05) for action, logprob in ours.items()}
    for model in models:
        found = asyncio.run(model.score(msgspec.structs.replace(asked, begun="")))
        assert [call.purpose for call in found.calls] == ["reason", "act"]
        assert {action for action, _ in found.replies[0].candidates} == set(ACTIONS)
        asyncio.run(model.aclose())


def test_the_table_compares_prompts_of_several_lengths(student: Path, tmp_path: Path) -> None:
    done = written(student, tmp_path, GGUF, "f16", floor=gate.Floor(agreement=1.0, kl_nats=1e-3, difference=None))
    assert [row.shape for row in done.parity.rows] == ["as recorded", "short prompt", "long prompt"]
    assert done.size_bytes < done.student_bytes
    assert min(done.trained_cost.decisions, done.exported_cost.decisions) == sum(
        row.questions for row in done.parity.rows
    )


def test_below_the_floor_nothing_is_written_and_the_inputs_are_named(student: Path, tmp_path: Path) -> None:
    old = tmp_path / "small.gguf"
    old.write_bytes(b"what was there")
    with pytest.raises(gate.GateFailed, match=r"KL .* nats.*answers differ; question \d.*Nothing was written"):
        written(student, tmp_path, GGUF, "q4_0", floor=gate.Floor(agreement=1.0, kl_nats=1e-9, difference=1e-9))
    assert old.read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


def test_success_is_asked_for_again(student: Path, tmp_path: Path) -> None:
    played: list[TunedModel] = []

    def play(model: TunedModel) -> dict[tuple[str, int], bool]:
        played.append(model)
        return {("task", seed): len(played) == 1 for seed in range(5)}

    with pytest.raises(gate.GateFailed, match=r"succeeded in 0\.0% of 5 episodes, the trained one in 100\.0%"):
        written(student, tmp_path, GGUF, "f16", play=play)
    assert [model.tuned.engine for model in played] == [Engine.TORCH, GGUF]
    assert not list(tmp_path.iterdir())


def test_numbers_by_hand(tmp_path: Path) -> None:
    """Rows of queries stand in pairs of halves; 8 bits are x = d * q with d = max|x| / 127 of 32 weights."""
    folder = tiny_checkpoint(tmp_path / "changed")
    model = load_model(folder)
    query = model.model.layers[0].self_attn.q_proj.weight
    with torch.no_grad():
        query[0] = torch.arange(32) * 4.0  # of a block whose greatest is 124: d = 124 / 127
        query[8] = torch.full((32,), 127.0)
    model.save_pretrained(str(folder))
    as_student(folder, INSTRUCTIONS)
    done = written(folder, tmp_path, GGUF, "q8_0")
    reader = importlib.import_module("gguf").GGUFReader(done.path)
    (tensor,) = [one for one in reader.tensors if one.name == "blk.0.attn_q.weight"]
    rows = importlib.import_module("gguf").quants.dequantize(tensor.data, tensor.tensor_type)
    scale = np.float32(np.float16(124 / 127))
    assert rows[0] == pytest.approx(np.round(np.arange(32) * 4 / (124 / 127)) * scale, rel=1e-6)
    assert rows[1] == pytest.approx(127.0), "row 8 of 16 is the second half's first, so it stands second"
    (kept,) = [one for one in reader.tensors if one.name == "blk.0.attn_norm.weight"]
    assert kept.tensor_type.name == "F32"
    assert reader.get_field("tokenizer.ggml.pre").contents() == "gpt-2"


def test_what_cannot_be_exported_is_told_before_weights_are_loaded(student: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"quantization for llama\.cpp.*q3_k"):
        Form(engine=GGUF, quantization="q3_k")
    with pytest.raises(ConfigError, match=r"must end in \.gguf"):
        export(student, tmp_path / "small", Form(engine=GGUF, quantization="f16"), questions())
    with pytest.raises(ConfigError, match="no held-out decision"):
        export(student, tmp_path / "small.gguf", Form(engine=GGUF, quantization="f16"), [])
    done = written(student, tmp_path, GGUF, "f16")
    with pytest.raises(ConfigError, match="is an export itself"):
        export(Path(done.path), tmp_path / "b.gguf", Form(engine=GGUF, quantization="f16"), questions())
    for scheme in ("local", "torch"):
        with pytest.raises((ConfigError, BadModelFile), match=rf"tuned:{done.path}"):
            open_model(f"{scheme}:{done.path}")
    (tmp_path / "taken").mkdir()
    with pytest.raises((ConfigError, MissingExtra), match=r"is no tuned student|ct2"):
        export(student, tmp_path / "taken", Form(engine=CT2, quantization="int8"), questions())


def test_a_missing_package_names_its_extra(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importlib.import_module("sys").modules, "ctranslate2", None)
    with pytest.raises(MissingExtra, match=r"potstill\[ct2\]"):
        export(student, tmp_path / "small", Form(engine=CT2, quantization="int8"), questions())


def test_models_that_llama_cpp_would_read_otherwise_are_refused(tmp_path: Path) -> None:
    from potstill.distill.weights.lm.gguf_architectures import check_architecture
    from potstill.distill.weights.lm.gguf_words import words_of

    with pytest.raises(ConfigError, match="llama, qwen2 or gemma3_text, and this one is 'mamba'"):
        check_architecture({"model_type": "mamba"})
    with pytest.raises(ConfigError, match="plain rotary positions, and this one has 'yarn'"):
        check_architecture({"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}})
    fewer = {"model_type": "qwen2", "hidden_size": 896, "num_attention_heads": 7, "head_dim": 64}
    with pytest.raises(
        ConfigError, match=r"as wide as its embeddings \(896\), and this model's 7 heads have 448: some"
    ):
        check_architecture(fewer)
    check_architecture({**fewer, "num_attention_heads": 14})
    words = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}, "added_tokens": [
        {"id": 2, "content": "<end>", "special": True}], "pre_tokenizer": {"type": "ByteLevel"}}  # fmt: skip
    found = words_of(words, 4)
    assert (found.tokens, found.kinds, found.merges) == (["a", "b", "<end>", "[PAD3]"], [1, 1, 3, 5], ["a b"])
    digits = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
    }
    assert words_of({**words, "pre_tokenizer": digits}, 4).splitting == "smollm"
    for changed, told in (
        ({"pre_tokenizer": {"type": "Metaspace"}}, "no name for how this tokenizer splits texts .Metaspace"),
        ({"pre_tokenizer": None}, "splits texts"),
        ({"normalizer": {"type": "Lowercase"}}, "changes texts first"),
        ({"model": {"type": "Unigram"}}, "this one is 'Unigram'"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            words_of({**words, **changed}, 4)
        assert "--ctranslate2" in str(error.value)


def test_a_changed_gguf_file_does_not_act(student: Path, tmp_path: Path) -> None:
    small = Path(written(student, tmp_path, GGUF, "f16").path)
    content = bytearray(small.read_bytes())
    content[-1] ^= 1
    small.write_bytes(content)
    with pytest.raises(BadModelFile, match=r"\.gguf: The file was changed after it was written"):
        open_tuned(small)


def test_a_changed_student_is_not_exported(student: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(student, tmp_path / "student-lm")
    told = changed / "student.json"
    (changed / "student.json.lineage.json").write_text("{}")
    told.write_text(told.read_text() + "\n")
    with pytest.raises(BadModelFile, match=r"student\.json: "):
        written(changed, tmp_path, GGUF, "f16")


def test_a_gguf_file_of_another_kind_is_no_student(tmp_path: Path, student: Path) -> None:
    from potstill.distill.weights.lm.gguf_file import write_gguf
    from potstill.models.lm_texts import LmTexts

    base = tiny_checkpoint(tmp_path / "base")
    path, texts = tmp_path / "base.gguf", LmTexts(base)
    told = {"quantization": "f16", "template": "chat"}
    write_gguf(path, load_model(base), texts.tokenizer, student="", **told)
    with pytest.raises(ConfigError, match=r"holds no tuned student.*Type: local:"):
        read_tuned(path)
    write_gguf(path, load_model(base), texts.tokenizer, student="{}", **told)
    with pytest.raises(BadModelFile, match=r"potstill\.student.* is damaged"):
        read_tuned(path)


def test_a_gateway_serves_no_student_under_another_name(student: Path, tmp_path: Path) -> None:
    from potstill.cli.serve import checked_local

    done = written(student, tmp_path, GGUF, "f16")
    with pytest.raises(ConfigError, match=r"is a tuned student: .* Type: tuned:"):
        checked_local(f"local:{done.path}")


@pytest.mark.llm
@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize(("engine", "bits"), [(GGUF, "q8_0"), pytest.param(CT2, "int8", marks=needs_ct2)])
def test_a_real_model_keeps_its_choices(smollm2: Path, tmp_path: Path, engine: Engine, bits: str) -> None:
    folder = tmp_path / "student-lm"
    folder.mkdir()
    for file in find_checkpoint("smollm2-135m").iterdir():
        (folder / file.name).symlink_to(file)
    as_student(folder, INSTRUCTIONS)
    floor = gate.Floor(agreement=0.7, kl_nats=0.05, difference=None, tie_nats=0.01)
    done = written(folder, tmp_path, engine, bits, floor=floor)
    assert done.size_bytes < 0.3 * done.student_bytes
    assert verify([Path(done.path)]).complete


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("{student}",), "nothing is named. Type for example: --gguf student.gguf"),
        (("{student}", "--gguf", "a.gguf", "--ctranslate2", "b"), "both --gguf and --ctranslate2"),
        (("{student}", "--onnx", "a.onnx"), "ONNX is for policies. Type: --gguf"),
        (("tuned:{student}", "--gguf", "a.gguf"), "an export needs them. Type: --data FOLDER"),
        (("{student}", "--gguf", "a.gguf", "--quantize", "q5"), "q5"),
        (("{student}", "--gguf", "no/such/a.gguf"), "There is no folder no/such"),
        (("{student}", "--ctranslate2", "a.gguf"), "ends in .gguf"),
        (("no-lm", "--gguf", "a.gguf"), "There is no file or folder no-lm. Name a policy's file"),
        (("{policy}", "--gguf", "a.gguf"), "--gguf is for tuned language models, and"),
        (("{policy}", "--most-kl", "3"), "--most-kl is for tuned language models"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", *(word.format(student=student, policy=__file__) for word in words)])
    err = capfd.readouterr().err
    assert (ended.value.code, err.strip().count("\n")) == (2, 0), err
    assert told in err
    assert not list(tmp_path.iterdir())
