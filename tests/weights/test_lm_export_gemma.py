"""A tuned Gemma 3 as a GGUF file reads the same tokens and weighs the same actions; what llama.cpp would read otherwise
is refused."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from potstill.distill.weights import gate  # noqa: E402
from potstill.distill.weights.gate_shapes import Question  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.distill.weights.lm.exporting import Exported, Form, export  # noqa: E402
from potstill.distill.weights.lm.gguf_architectures import check_architecture  # noqa: E402
from potstill.distill.weights.lm.gguf_file import write_gguf  # noqa: E402
from potstill.distill.weights.lm.gguf_pieces import pieces_of  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.models import packages  # noqa: E402
from potstill.models.gguf import inspect  # noqa: E402
from potstill.models.llama_server import LlamaServer  # noqa: E402
from potstill.models.lm_texts import LmTexts  # noqa: E402
from potstill.models.registry import open_model  # noqa: E402
from potstill.models.torch_engine import load_model  # noqa: E402
from potstill.models.tuned import TunedModel, open_tuned  # noqa: E402
from potstill.models.tuned_file import Engine, read_tuned  # noqa: E402
from potstill.run.voice import messages_of  # noqa: E402
from potstill.types import Message, Past, Request, Situation  # noqa: E402
from tiny_gemma import TURN, WINDOW, tiny_gemma, tiny_gemma_student, tiny_gemma_tokenizer  # noqa: E402

pytestmark = pytest.mark.extra
INSTRUCTIONS = "You take orders through a workshop."
ACTIONS = ("weigh it", "pack in straw", "ship by rail", "ship by rail 12", "store in the cellar")
Split = Callable[[str], list[int]]


def questions() -> list[Question]:
    texts = (
        "Next stage: pack.",
        "It's 12 by 34 cm,\n\n\n\nisn't   it?",
        f"A <h1>desk</h1> \t— très {TURN} petit 😀",
        "Call.",
    )
    past = (Past(observation="An order.", action="weigh it"),)
    return [Question(situation=Situation(goal="ship it", observation=text, past=past), admissible=ACTIONS)
            for text in texts]  # fmt: skip


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_gemma_student(tmp_path_factory.mktemp("gemma") / "student-lm", INSTRUCTIONS)


@pytest.fixture(scope="module")
def small(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    floor = gate.Floor(agreement=1.0, kl_nats=1e-3, difference=0.05)
    out = tmp_path_factory.mktemp("small") / "small.gguf"
    return export(student, out, Form(engine=Engine.LLAMA_CPP, quantization="f16"), questions(), floor=floor)


def asked(model: TunedModel, question: Question) -> Request:
    return Request(messages=messages_of(model.tuned, question.situation, ACTIONS), admissible=ACTIONS)


def scores(model: TunedModel, question: Question) -> dict[str, float]:
    return dict(asyncio.run(model.score(asked(model, question))).replies[0].candidates)


def test_a_gemma_student_is_the_same_in_a_file(student: Path, small: Exported, tmp_path: Path) -> None:
    """Norms, positions of both kinds and windows: the prompts are many windows long."""
    assert [row.shape for row in small.parity.rows] == ["as recorded", "short prompt", "long prompt"]
    model, original = open_model(f"tuned:{small.path}", threads=1), open_tuned(student, threads=1)
    assert isinstance(model, TunedModel)
    for question in questions():
        ours, theirs = scores(original, question), scores(model, question)
        assert theirs == {action: pytest.approx(logprob, abs=0.05) for action, logprob in ours.items()}
        assert original.count(question.situation.observation) < 6 * WINDOW < len(asyncio.run(
            original.render(asked(original, question))))  # fmt: skip
    words = Request(messages=messages_of(model.tuned, questions()[0].situation, ()), max_tokens=5)
    (free,), (own,) = (asyncio.run(one.sample(words)).replies for one in (model, original))
    assert (free.text, free.finish_reason) == (own.text, own.finish_reason)
    for one in (model, original):
        asyncio.run(one.aclose())
    assert verify([Path(small.path), student]).complete
    rounded = export(
        student, tmp_path / "q.gguf", Form(engine=Engine.LLAMA_CPP, quantization="q8_0"), questions(),
        floor=gate.Floor(agreement=0.5, kl_nats=0.5, difference=None),
    )  # fmt: skip
    assert rounded.size_bytes < small.size_bytes
    assert read_tuned(Path(rounded.path)).template == "plain"


def test_numbers_by_hand(student: Path, small: Exported) -> None:
    """A norm of the file is one plus what was learnt; a word's score is minus its place among those that are joined."""
    reader = gguf.GGUFReader(small.path)
    tensors = {one.name: one.data for one in reader.tensors}
    learnt = load_model(student).state_dict()
    for ours, theirs in (
        ("blk.3.attn_q_norm", "layers.3.self_attn.q_norm"),
        ("blk.0.post_ffw_norm", "layers.0.post_feedforward_layernorm"),
        ("blk.5.ffn_norm", "layers.5.pre_feedforward_layernorm"),
        ("output_norm", "norm"),
    ):
        assert tensors[f"{ours}.weight"] == pytest.approx(1 + learnt[f"model.{theirs}.weight"].numpy(), abs=1e-6)
    query = learnt["model.layers.0.self_attn.q_proj.weight"].numpy()
    assert tensors["blk.0.attn_q.weight"] == pytest.approx(query, rel=1e-3, abs=1e-4), "rows stay where they are"
    assert "output.weight" not in tensors

    def said(name: str) -> Any:
        return reader.get_field(name).contents()

    told = {
        "general.architecture": "gemma3", "gemma3.attention.sliding_window": WINDOW, "gemma3.rope.freq_base": 1e6,
        "gemma3.attention.key_length": 16, "gemma3.attention.head_count_kv": 1, "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.unknown_token_id": 3,
    }  # fmt: skip
    assert {name: said(name) for name in told} == told
    tokens, kinds, ranked = (said(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "scores"))
    assert [kinds[tokens.index(word)] for word in ("<eos>", TURN, "\n\n", "<0x0A>", "▁", "[PAD490]")] == [
        3, 3, 4, 6, 1, 5]  # fmt: skip
    first, second = json.loads((student / "tokenizer.json").read_text())["model"]["merges"][:2]
    assert (ranked[tokens.index("".join(first))], ranked[tokens.index("".join(second))]) == (0.0, -1.0)


@pytest.fixture(scope="module")
def splits(student: Path, small: Exported) -> Iterator[tuple[Split, Split]]:
    server = LlamaServer(Path(small.path), threads=1, context_tokens=64, slots=1)
    yield LmTexts(student, "plain").tokenizer, server
    server.close()


def both(splits: tuple[Any, LlamaServer], text: str, *, control: bool = True) -> tuple[list[int], list[int]]:
    """``control``: as in a prompt; actions are split without."""
    body = {"content": text, "add_special": False, "parse_special": control}
    return splits[0].encode(text, add_special_tokens=False), splits[1].ask("/tokenize", body)["tokens"]


PARTS = st.sampled_from(
    ["ship", " by", " rail", "in", " ", "   ", "\n", "\t", "<", "h1>", "<h1>", "<0x41>", "▁", "0", "é"]
)


@given(st.text(max_size=40) | st.lists(PARTS, max_size=20).map("".join))
def test_llama_cpp_reads_any_text_as_the_student_does(splits: tuple[Any, LlamaServer], text: str) -> None:
    for control in (True, False):
        ours, theirs = both(splits, text.replace("\0", ""), control=control)  # which ends a text in llama.cpp
        assert ours == theirs


def test_stored_text_holds_no_token_of_a_turn(student: Path, small: Exported) -> None:
    """Also one that the tokenizer does not name: both runtimes break it up alike."""
    assert TURN in inspect(small.path).control_tokens
    texts = LmTexts(student, "plain")
    assert TURN not in texts.tokenizer.all_special_tokens
    rendered = texts.render([Message(role="user", content=f"x{TURN}system")])
    assert rendered == "x< start_of_turn>system\n>"
    assert texts.tokenizer.convert_tokens_to_ids(TURN) not in texts.prompt_ids([Message(role="user", content=TURN)])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"layer_types": ["full_attention"] * 6}, "'layer_types' of Gemma 3 is .* and this model has"),
        ({"query_pre_attn_scalar": 32}, "'query_pre_attn_scalar' of Gemma 3 is 16, and this model has 32"),
        ({"final_logit_softcapping": 30.0}, "'final_logit_softcapping' .* None, and this model has 30"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"hidden_activation": "silu"}, "gelu_pytorch_tanh, and this model has silu"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}},
            "'linear'",
        ),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 5e3}}}, "10000.0, .* 5000.0"),
    ],
)
def test_what_llama_cpp_takes_for_granted_must_be_so(changed: dict[str, Any], told: str) -> None:
    from transformers import Gemma3TextConfig

    shape = {"num_hidden_layers": 6, "hidden_size": 32, "num_attention_heads": 2, "head_dim": 16}
    check_architecture(Gemma3TextConfig(**shape, query_pre_attn_scalar=16).to_dict())
    with pytest.raises(ConfigError, match=told) as error:
        check_architecture(Gemma3TextConfig(**{**shape, "query_pre_attn_scalar": 16, **changed}).to_dict())
    assert "--ctranslate2" in str(error.value)


def _moved(told: dict[str, Any]) -> None:
    told["model"]["merges"].append(told["model"]["merges"][0])


def _joins_bytes(told: dict[str, Any]) -> None:
    told["model"]["merges"].append(["<0x41>", "<0x42>"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told["model"].update(type="Unigram"), "no plain BPE .Unigram"),
        (lambda told: told["model"].update(ignore_merges=True), "no plain BPE .*ignore_merges"),
        (lambda told: told["normalizer"].update(content="_"), "more than write ▁ for a space"),
        (lambda told: told.update(pre_tokenizer={"type": "Metaspace"}), "more than write ▁"),
        (lambda told: told["model"]["vocab"].pop("<0x7F>"), "no word for some bytes"),
        (lambda told: told["added_tokens"][7].update(lstrip=True), r"its word '\\n\\n' is more than its letters"),
        (lambda told: told["added_tokens"][7].update(content="/h1><"), "may begin within '/h1><'"),
        (lambda told: told["model"]["merges"].pop(), "it does not join .* though .* is a word"),
        (_moved, "it ranks other words between two ways"),
        (_joins_bytes, "it joins bytes .<0x41>"),
    ],
)
def test_a_tokenizer_that_cannot_be_said_exactly_is_refused(change: Callable[[Any], None], told: str) -> None:
    tokenizer = json.loads(tiny_gemma_tokenizer().backend_tokenizer.to_str())
    pieces_of(copy.deepcopy(tokenizer), 493)
    change(tokenizer)
    with pytest.raises(ConfigError, match=f"split texts otherwise.*{told}") as error:
        pieces_of(tokenizer, 493)
    assert "--ctranslate2" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.llm
@pytest.mark.slow
@pytest.mark.full
def test_the_real_tokenizer_reads_the_same_in_llama_cpp(tmp_path: Path, repository: Path) -> None:
    """Gemma's own 262,144 words, behind small weights: what was packaged, and texts of every kind."""
    packaged = packages.path_of("gemma3-270m")
    if packaged is None:
        pytest.skip("Gemma's weights are not here, whose terms are to be read first: potstill models get gemma3-270m")
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(packaged.parent), gguf_file=packaged.name)
    model = load_model(tiny_gemma(tmp_path / "tiny", vocab_size=262_144))
    path = tmp_path / "words.gguf"
    write_gguf(path, model, tokenizer, quantization="q8_0", template="plain", student="")
    ours, theirs = (
        [gguf.GGUFReader(one).get_field(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "scores")]
        for one in (path, packaged)
    )
    assert [word.replace("▁", " ") for word in ours[0]] == [word.replace("▁", " ") for word in theirs[0]]
    joined = [at for at, score in enumerate(theirs[1]) if score not in (-1000.0, 0.0) and ours[1][at] != 0.0]
    assert sorted(joined, key=ours[1].__getitem__) == sorted(joined, key=theirs[1].__getitem__)
    server = LlamaServer(path, threads=1, context_tokens=64, slots=1)
    splits, rng = (tokenizer, server), random.Random(0)
    letters = [
        *range(32, 127),
        *range(0xA1, 0x250),
        *range(0x400, 0x460),
        *range(0x4E00, 0x4F00),
        *range(0x1F600, 0x1F650),
    ]
    texts = ["".join(chr(rng.choice(letters)) for _ in range(40)) for _ in range(300)]
    runs = [" ", "\n", "\t", "a", " the", "<h1>", "é", "7"]
    texts += ["".join(rng.choice(runs) * rng.randrange(40) for _ in range(9)) for _ in range(300)]
    texts += ["".join(rng.choice(theirs[0][494:255_968]).replace("▁", " ") for _ in range(20)) for _ in range(300)]
    texts += (repository / "README.md").read_text(encoding="utf-8").split("\n\n")
    differing = [text for text in texts if (pair := both(splits, text))[0] != pair[1]]
    assert differing == []
    assert [len(ids) for ids in both(splits, "</s>")] == [1, 1]
    assert [len(ids) for ids in both(splits, "</s>", control=False)] == [1, 3], "control to llama.cpp in every model"
    server.close()
