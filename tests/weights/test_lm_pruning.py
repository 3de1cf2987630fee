"""Heads and units taken out of a language model: what is left computes what it did, is tuned on the student's own
choices, and is a student like the one that it came from."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

import lm_examples as examples  # noqa: E402
from data_episodes import house_episodes  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from lm_examples import INSTRUCTIONS, TRAIN  # noqa: E402

from potstill.distill.weights import lineage  # noqa: E402
from potstill.distill.weights.compress.recipe import Compression  # noqa: E402
from potstill.distill.weights.compress.stages import Verdict  # noqa: E402
from potstill.distill.weights.data import build  # noqa: E402
from potstill.distill.weights.gate import Floor  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.distill.weights.lm import folder, student  # noqa: E402
from potstill.distill.weights.lm.axes import axes_of, permitted, staying, without  # noqa: E402
from potstill.distill.weights.lm.chats import Chat  # noqa: E402
from potstill.distill.weights.lm.compressing import Subject, compress, subject_of, write  # noqa: E402
from potstill.distill.weights.lm.pruning import as_chosen  # noqa: E402
from potstill.errors import BadModelFile, ConfigError  # noqa: E402
from potstill.models.torch_engine import load_model  # noqa: E402
from potstill.models.tuned import TunedModel, open_tuned  # noqa: E402
from potstill.models.tuned_file import Voice  # noqa: E402
from potstill.types import Message, Request  # noqa: E402
from tiny_lm import tiny_checkpoint, tiny_student  # noqa: E402

pytestmark = pytest.mark.extra
SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 24, "intermediate_size": 10, "num_hidden_layers": 2, "num_attention_heads": 6,
    "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.3, "tie_word_embeddings": True,
    "pad_token_id": 0,
}  # fmt: skip
IDS = [[3, 14, 15, 9, 26, 5, 35, 8, 9, 7]]
ANYTHING = Floor(agreement=0.0, kl_nats=None, difference=None)
SPLITS = build(house_episodes(6), fractions={"train": 0.6, "valid": 0.4}, equal="drop").splits
ADMISSIBLE = ("weigh it", "pack in straw", "ship by rail")


def model_of(kind: str, shared: int) -> Any:
    """Random weights; ``shared``: keys and values."""
    torch.manual_seed(0)
    sizes = {**SIZES, "num_key_value_heads": shared}
    config = {
        "llama": lambda: transformers.LlamaConfig(**sizes, attention_bias=True, mlp_bias=True),
        "qwen2": lambda: transformers.Qwen2Config(**sizes),
        "gemma3": lambda: transformers.Gemma3TextConfig(**sizes, query_pre_attn_scalar=8, sliding_window=4),
    }[kind]()
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(".bias"):
                value.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, int], Any]:
    torch.set_num_threads(1)
    return {key: model_of(*key) for key in (("llama", 3), ("qwen2", 6), ("gemma3", 1))}


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits[0].numpy()


def silenced(model: Any, keep: dict[str, list[int]]) -> Any:
    """The model with everything at zero that belongs to other units."""
    found = copy.deepcopy(model)
    arrays = found.state_dict()
    for name, axis in axes_of(found).items():
        for part in axis.parts:
            rows = arrays[part.array].movedim(part.dimension, 0)
            for unit in set(range(axis.size)) - set(keep.get(name, range(axis.size))):
                rows[unit * part.width : (unit + 1) * part.width] = 0
    return found


@pytest.mark.parametrize("key", [("llama", 3), ("qwen2", 6), ("gemma3", 1)])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_silent_heads_and_units_can_be_taken_out_and_nothing_changes(
    models: dict[tuple[str, int], Any], key: tuple[str, int], data: st.DataObject
) -> None:
    model, keep = models[key], dict[str, list[int]]()
    axes = axes_of(model)
    left = {kind: data.draw(st.integers(1, axes[f"layers.0.{kind}"].size)) for kind in ("heads", "units")}
    for name, axis in axes.items():
        some = st.permutations(range(axis.size)).map(lambda order, name=name: order[: left[name.split(".")[-1]]])
        keep[name] = data.draw(some) if key[0] != "llama" else sorted(data.draw(some))
    smaller = without(model, keep)
    np.testing.assert_allclose(logits(smaller), logits(silenced(model, keep)), rtol=1e-3, atol=1e-4)
    assert sum(value.numel() for value in smaller.parameters()) <= sum(value.numel() for value in model.parameters())


def test_shapes_by_hand(models: dict[tuple[str, int], Any], tmp_path: Path) -> None:
    """6 heads of 8 that share 3 keys: one key's 2 heads less are 4 of 8 numbers, so 32 of 48 rows. Of heads that share
    one key, single ones go. The checkpoint loads as any other."""
    keep = {f"layers.{layer}.heads": [0, 2] for layer in range(2)} | {f"layers.{at}.units": [1, 5, 7] for at in (0, 1)}
    smaller = without(models["llama", 3], keep)
    smaller.save_pretrained(str(tmp_path))
    loaded = load_model(tmp_path)
    told = loaded.config
    assert (told.num_attention_heads, told.num_key_value_heads, told.intermediate_size, told.head_dim) == (4, 2, 3, 8)
    shapes = {name.split("layers.1.")[1]: tuple(value.shape) for name, value in loaded.state_dict().items()
              if "layers.1." in name and "norm" not in name and name.endswith("weight")}  # fmt: skip
    assert shapes == {
        "self_attn.q_proj.weight": (32, 24), "self_attn.k_proj.weight": (16, 24), "self_attn.v_proj.weight": (16, 24),
        "self_attn.o_proj.weight": (24, 32), "mlp.gate_proj.weight": (3, 24), "mlp.up_proj.weight": (3, 24),
        "mlp.down_proj.weight": (24, 3),
    }  # fmt: skip
    np.testing.assert_allclose(logits(loaded), logits(smaller), atol=1e-6)
    rows = models["llama", 3].model.layers[1].self_attn.q_proj.bias.reshape(3, 16)[[0, 2]].ravel()
    assert torch.equal(loaded.model.layers[1].self_attn.q_proj.bias, rows)
    few = without(models["gemma3", 1], {f"layers.{layer}.heads": [4, 5] for layer in range(2)}).config
    assert (few.num_attention_heads, few.num_key_value_heads, few.intermediate_size) == (2, 1, 10)


def test_as_many_heads_are_left_as_transformers_takes(models: dict[tuple[str, int], Any]) -> None:
    """Of six single heads beside embeddings of 24 numbers five would not load, so a third goes, or none."""
    axes = axes_of(models["qwen2", 6])
    assert permitted(models["qwen2", 6].config, axes["layers.0.heads"]) == [1, 2, 3, 4, 6]
    assert permitted(models["llama", 3].config, axes_of(models["llama", 3])["layers.0.heads"]) == [1, 2, 3]
    assert permitted(models["qwen2", 6].config, axes["layers.1.units"]) == list(range(1, 11))
    assert [staying([1, 2, 3, 4, 6], 6, share) for share in (0.2, 0.34, 0.5, 0.99)] == [6, 4, 3, 1]


def test_a_model_that_is_built_otherwise_is_named() -> None:
    with pytest.raises(ConfigError, match=r"built as Llama's .*'gpt2', is not: num_key_value_heads"):
        axes_of(transformers.AutoModelForCausalLM.from_config(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2)))
    odd = transformers.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=2)
    with pytest.raises(ConfigError, match=r"'mixtral', is not: model\.layers\.0\.mlp\.gate_proj\.weight"):
        axes_of(transformers.AutoModelForCausalLM.from_config(odd))


def test_what_is_learnt_by_hand() -> None:
    """Logits of 0, ln 3 and -9 are .25, .75 and (below one in a hundred) nothing; a fifth of recorded actions makes
    .8 * .25 + .2 = .4 and .6."""
    chat = Chat(messages=(Message(role="user", content="?"),), admissible=ADMISSIBLE, action="weigh it", weight=2.0)
    own = as_chosen(lambda some: [np.array([0.0, np.log(3.0), -9.0]) for _ in some], [chat])
    assert [(one.action, one.weight) for one in own] == [
        ("weigh it", pytest.approx(0.5, abs=1e-3)),
        ("pack in straw", pytest.approx(1.5, abs=1e-3)),
    ]
    mixed = as_chosen(lambda some: [np.array([0.0, np.log(3.0), -9.0]) for _ in some], [chat], 0.2)
    assert [one.weight for one in mixed] == pytest.approx([0.8, 1.2], abs=1e-3)


# --- students -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A student that learnt some orders: adapters on a base of six heads that share three keys."""
    torch.set_num_threads(1)
    base = tiny_checkpoint(tmp_path_factory.mktemp("base"), hidden=48)
    config = load_model(base).config
    config.num_attention_heads, config.num_key_value_heads = 6, 3
    torch.manual_seed(1)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(str(base))
    tiny = examples.made(base)
    prepared = tiny.prepared()
    student.teach(prepared, msgspec.structs.replace(tiny.recipe, train=msgspec.structs.replace(TRAIN, steps=40)))
    path = base.parent / "student-lm"
    told = {"environment": "house-rules", "instructions": INSTRUCTIONS, "approve": lambda partial: {}}
    folder.write(path, prepared, tiny.recipe, lineage.Manifest(), **told)
    return subject_of(path, SPLITS["train"], SPLITS["valid"], most=12)


@pytest.fixture(scope="module")
def made(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Half of heads and units, tuned; and the folder."""
    recipe = Compression(prune=(0.5,), finetune_steps=25, batch=8, learning_rate=2e-2, floor=ANYTHING)
    told: list[str] = []
    done = compress(subject, recipe, told=lambda row: told.append(row.stage))
    assert told == ["as given", "prune 0.5", "prune 0.5, fine-tune"]
    path = tmp_path_factory.mktemp("made") / "small-lm"
    manifest = lineage.Manifest(parents=(lineage.parent(subject.source),))
    written, table = write(subject, done.state, path, manifest)
    assert table["agreement"] == 1
    assert written.tuned.merged
    return done, path


def scores(model: TunedModel) -> dict[str, float]:
    messages = (Message(role="system", content=INSTRUCTIONS), Message(role="user", content="Next stage: pack."))
    return dict(asyncio.run(model.score(Request(messages=messages, admissible=ADMISSIBLE))).replies[0].candidates)


def test_what_is_left_is_smaller_and_learnt_the_students_choices(made: tuple[Any, Path]) -> None:
    given, cut, tuned = made[0].rows
    assert (given.agreement, given.kl_nats, given.memory_bytes) == (1, 0, None)
    assert (cut.verdict, tuned.verdict) == (Verdict.UNTUNED, Verdict.KEPT)
    assert cut.parameters == tuned.parameters < given.parameters
    assert tuned.size_bytes == 4 * tuned.parameters
    assert tuned.kl_nats < 0.5 * cut.kl_nats
    assert tuned.decision_ms > 0


def test_it_is_a_student_like_the_given_one(made: tuple[Any, Path], subject: Subject) -> None:
    path = made[1]
    opened, given = open_tuned(path, threads=1), open_tuned(subject.source, threads=1)
    assert (opened.tuned.voice, opened.tuned.base) == (given.tuned.voice, given.tuned.base)
    assert opened.tuned.instructions == INSTRUCTIONS
    config = load_model(path).config
    assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (4, 2, 24)
    assert scores(opened) != pytest.approx(scores(given), abs=1e-3)
    with pytest.raises(ConfigError, match="without demonstrations"):
        asyncio.run(opened.score(Request(messages=(Message(role="system", content="Else."),), admissible=ADMISSIBLE)))
    assert verify([path, subject.source]).complete
    weights = path / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + b"\x01")
    with pytest.raises(BadModelFile, match="was changed"):
        open_tuned(path)
    weights.write_bytes(kept)
    again = subject_of(path, SPLITS["train"], SPLITS["valid"], most=6)
    twice = compress(again, Compression(prune=(0.5,), axes=("units",), finetune_steps=1, batch=2, floor=ANYTHING))
    assert twice.state.config.intermediate_size == 12


@pytest.mark.parametrize(("engine", "bits", "within"), [("llama.cpp", "f16", 0.05), ("ctranslate2", "float32", 0.02)])
def test_it_is_exported_as_any_other(
    made: tuple[Any, Path], tmp_path: Path, engine: str, bits: str, within: float
) -> None:
    """Fewer heads than fit into the embedding: their size has to be told, it cannot be divided out."""
    pytest.importorskip("xllamacpp" if engine == "llama.cpp" else "ctranslate2")
    from potstill.distill.weights.gate_shapes import questions_of
    from potstill.distill.weights.lm.exporting import Form, export
    from potstill.models.tuned_file import Engine

    out = tmp_path / ("small.gguf" if engine == "llama.cpp" else "small-ct2")
    asked = questions_of(SPLITS["valid"], 4)
    done = export(made[1], out, Form(engine=Engine(engine), quantization=bits), asked)
    assert done.parity.passed
    opened, given = open_tuned(out, threads=1), open_tuned(made[1], threads=1)
    assert scores(opened) == {action: pytest.approx(value, abs=within) for action, value in scores(given).items()}
    for one in (opened, given):
        asyncio.run(one.aclose())


def test_a_stage_that_fails_is_undone_and_the_next_starts_from_what_stood(subject: Subject) -> None:
    recipe = Compression(
        prune=(0.95, 0.4), axes=("units",), finetune_steps=1, batch=2, learning_rate=1e-6,
        floor=Floor(agreement=0.0, kl_nats=0.02, difference=None),
    )  # fmt: skip
    done = compress(subject, recipe)
    assert [row.verdict for row in done.rows[2::2]] == [Verdict.UNDONE, Verdict.KEPT]
    assert done.rows[2].kl_nats > 0.02 > done.rows[4].kl_nats
    assert done.state.config.intermediate_size == 29
    assert done.rows[4].parameters == done.rows[0].parameters - 2 * 3 * 48 * 19


def test_the_same_compression_gives_the_same_weights(subject: Subject) -> None:
    recipe = Compression(prune=(0.5,), finetune_steps=3, batch=4, learning_rate=1e-2, floor=ANYTHING)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    one, other = (compress(subject, recipe).state.state_dict() for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_magnitude_keeps_the_heaviest_units(subject: Subject) -> None:
    recipe = Compression(prune=(0.5,), axes=("units",), score="magnitude", finetune_steps=1, batch=2,
                         learning_rate=1e-9, floor=ANYTHING)  # fmt: skip
    done = compress(subject, recipe)
    mlp, left = subject.model.model.layers[1].mlp, done.state.model.layers[1].mlp
    norms = mlp.gate_proj.weight.square().sum(1) + mlp.up_proj.weight.square().sum(1)
    best = (norms + mlp.down_proj.weight.square().sum(0)).argsort(descending=True)[:24].sort().values
    np.testing.assert_allclose(left.gate_proj.weight.detach(), mlp.gate_proj.weight[best].detach(), atol=1e-6)


def test_what_is_done_decides_where_episodes_are_played(subject: Subject) -> None:
    played: list[TunedModel] = []

    def play(model: TunedModel) -> dict[tuple[str, int], bool]:
        played.append(model)
        return {(f"task-{at}", 0): len(played) == 1 or at > 0 for at in range(10)}

    recipe = Compression(prune=(0.5,), finetune_steps=1, batch=2, floor=ANYTHING)
    done = compress(subject, recipe, play=play)
    assert [model.tuned.environment for model in played] == ["house-rules"] * 2
    assert (done.rows[-1].success, done.rows[-1].verdict) == (0.9, Verdict.UNDONE)
    assert done.success is None
    assert done.state is subject.model


def test_what_cannot_be_is_told_before_hours_are_spent(subject: Subject, tmp_path: Path) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"width": 8}, "Policies take --width"),
        ({"prune": (0.5,), "sparse": 0.5}, "Policies take --zeros"),
        ({"bits": (8,)}, r"Policies take --int8 and --int4.*potstill export STUDENT --gguf OUT"),
        ({"prune": (0.5,), "temperature": 2.0}, "temperature is 2.0"),
        ({"prune": (0.5,), "axes": ("hedas",)}, "Did you mean 'heads'"),
        ({"prune": (0.3,), "axes": ("heads",)}, "takes out none of this model's 3 heads.* Type: --prune 0.34"),
        ({"prune": (0.5, 0.5, 0.5), "axes": ("heads",)}, "none of this model's 1 heads.* Type: --axis units"),
        ({"prune": (0.01,)}, "takes out none"),
    )
    for options, said in refused:
        with pytest.raises(ConfigError, match=said):
            compress(subject, Compression(**options))
    for at, (fields, said) in enumerate((
        ({"voice": Voice(reasoning="with-action", history_turns=0)}, "tuned with reasoning"),
        ({"demonstrations": 1}, "tuned with demonstrations"),
    )):  # fmt: skip
        other = tiny_student(tmp_path / f"student-{at}", INSTRUCTIONS, **fields)
        with pytest.raises(ConfigError, match=said):
            subject_of(other, SPLITS["train"], SPLITS["valid"])
    with pytest.raises(ConfigError, match="0 held out"):
        subject_of(subject.source, SPLITS["train"], [])
