"""A tuned student with fewer heads and units: pruned, tuned on its own choices, judged by itself or undone, written.

The stages and their judge are those of small policies (``compress.stages``). What passes is written as whole weights
and is a tuned student like the given one. Knows students and folders. Does not know which weights belong to a head
(``axes``), how one is tuned (``pruning``), or who plays episodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.distill.weights import lineage
from potstill.distill.weights.compress.cost import decision_ms
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.stages import Compressed, Measures, Row, Stages, Ways
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.gate_shapes import ASKED
from potstill.distill.weights.gate_success import Outcomes
from potstill.distill.weights.lm import folder
from potstill.distill.weights.lm.axes import NAMES, UNITS, axes_of, kind_of, permitted, staying
from potstill.distill.weights.lm.chats import Chat
from potstill.distill.weights.lm.network import LmNetwork
from potstill.distill.weights.lm.pruning import as_chosen, chosen, drawn, pruned, tuned
from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.lm.student import Asked, asked, parity, side_of
from potstill.distill.weights.lm.tokens import LmChoices, LmExamples, check_lengths
from potstill.errors import ConfigError, one_of
from potstill.models.lm_texts import LmTexts
from potstill.models.torch_engine import TorchEngine, set_threads
from potstill.models.torch_lm import TorchModel
from potstill.models.tuned import TunedModel, open_tuned, whole_model
from potstill.models.tuned_file import Engine, Tuned, check_files, check_sealed, read_tuned
from potstill.run.voice import messages_of

Play = Callable[[TunedModel], Outcomes]
"""Has a student do the same held-out tasks as any other one."""
TIMED = 8
"""Questions that a decision is timed by, evenly picked."""


class Subject(NamedTuple):
    """A tuned student to be made smaller, and the chats that it learnt and is judged by."""

    source: Path
    tuned: Tuned
    model: Any
    """Whole weights, adapters added."""
    texts: LmTexts
    learn: list[Chat]
    questions: list[Asked]


def check_recipe(recipe: Compression) -> None:
    """What can be refused before weights are loaded. Raises ``ConfigError``."""
    for given, name in ((recipe.width, "--width"), (recipe.sparse, "--zeros"), (recipe.bits, "--int8 and --int4")):
        if given:
            raise ConfigError(
                f"Policies take {name}. Of a language model heads and units are taken out (--prune 0.25), and fewer "
                "bits are an export's: potstill export STUDENT --gguf OUT --quantize q8_0"
            )
    if recipe.temperature != 1:
        raise ConfigError(f"temperature is {recipe.temperature}. A language model's choices are learnt as they are: 1.")
    for axis in recipe.axes:
        one_of("axis", axis, NAMES)


def check_student(source: Path, tuned: Tuned) -> None:
    """The same of a student. Raises ``ConfigError``, ``BadModelFile`` for a changed one."""
    check_sealed(source)
    if tuned.engine is not Engine.TORCH:
        raise ConfigError(f"{source} is an export. Give the student that it was made from, by its folder.")
    lacking = {"reasoning": tuned.voice.reasoning != "none", "demonstrations": bool(tuned.demonstrations)}
    for what, learnt in lacking.items():
        if learnt:
            raise ConfigError(
                f"{source} was tuned with {what} in its prompts, which its data do not hold, so it cannot learn on "
                "what it learnt. Tune a smaller base instead: --base NAME"
            )
    check_files(source, tuned)


def subject_of(
    source: Path,
    learn: Sequence[Labelled],
    held_out: Sequence[Labelled],
    *,
    most: int = ASKED,
    threads: int = 1,
    base: str | None = None,
) -> Subject:
    """A student's folder, and the decisions that it was tuned on and judged by (``most``, evenly picked).

    ``base``: as of ``open_tuned``. Raises ``ConfigError`` as ``check_student``, and for data that cannot be learnt;
    ``BadModelFile``, ``MissingExtra``.
    """
    if not learn or not held_out:
        raise ConfigError(f"{len(learn)} decisions to learn from and {len(held_out)} held out: both are needed.")
    tuned = read_tuned(source)
    check_student(source, tuned)
    set_threads(threads)
    model = whole_model(source, tuned, base)
    texts = LmTexts(source, "chat" if tuned.template == "chat" else "plain")
    chats = [_chat(tuned, decision) for decision in learn]
    asked_of = [asked(_chat(tuned, one)) for one in held_out[:: max(1, -(-len(held_out) // most))]]
    examples = _examples(chats, texts, model)
    if (problem := examples.problem()) is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Give the data that the student was made from: --data")
    judged = LmChoices([one.chat for one in asked_of], texts)
    check_lengths(examples, judged, int(model.config.max_position_embeddings))
    return Subject(source, tuned, model, texts, chats, asked_of)


def compress(
    subject: Subject,
    recipe: Compression,
    *,
    play: Play | None = None,
    told: Callable[[Row], None] = lambda row: None,
) -> Compressed[Any]:
    """Run the stages; a state is a model of transformers with whole weights. ``play`` and ``told`` as of small
    policies (``compress.chain``). Raises ``ConfigError`` for a recipe of which nothing is taken out, ``Diverged``."""
    check_recipe(recipe)
    _check_shares(subject.model, recipe)
    learn = drawn(subject.learn, recipe)
    own = as_chosen(_side(subject, subject.model), learn, recipe.hard_share)
    recorded, imitated = (_examples(chats, subject.texts, subject.model) for chats in (learn, own))
    if (problem := imitated.problem()) is not None:
        raise ConfigError(f"The student's own choices teach nothing: {problem}. Learn recorded ones: --hard-share 1")
    ways: Ways[Any] = Ways(
        side=lambda model: _side(subject, model),
        measures=lambda model: _measures(subject, model),
        play=None if play is None else lambda model: play(_acting(subject, model)),
    )
    stages = Stages(subject.model, ways, subject.questions, recipe.floor, told)
    for share in recipe.prune:
        without = pruned(stages.state, recorded, share, recipe)
        stages.untuned(f"prune {share:g}", without)
        stages.judge(f"prune {share:g}, fine-tune", tuned(without, imitated, recipe))
    return stages.done()


def write(
    subject: Subject, model: Any, path: Path, manifest: lineage.Manifest, *, key: Path | None = None
) -> tuple[folder.Written, Mapping[str, Any]]:
    """What is left as a student's folder, if it acts from the disk as it does here; and the gate's table.

    Raises as ``folder.write_student``, ``GateFailed``.
    """
    tables: list[dict[str, Any]] = []

    def save(partial: Path) -> None:
        model.save_pretrained(str(partial))
        subject.texts.tokenizer.save_pretrained(str(partial))

    def approve(partial: Path) -> dict[str, Any]:
        opened = open_tuned(partial, threads=1)
        try:
            tables.append(parity(_side(subject, model), opened, subject.questions).summary())
        finally:
            asyncio.run(opened.aclose())
        return {"parity": tables[0]}

    told = msgspec.structs.replace(subject.tuned, merged=True)
    return folder.write_student(path, told, save, manifest, approve=approve, key=key), tables[0]


# --- parts ----------------------------------------------------------------------------------------------------------


def _chat(tuned: Tuned, decision: Labelled) -> Chat:
    return Chat(
        messages=messages_of(tuned, decision.situation, decision.admissible),
        admissible=decision.admissible,
        action=decision.action,
        weight=decision.weight,
    )


def _examples(chats: Sequence[Chat], texts: LmTexts, model: Any) -> LmExamples:
    return LmExamples(chats, texts, LmRecipe(base="").spans, int(model.config.vocab_size))


def _side(subject: Subject, model: Any) -> Any:
    return side_of(LmNetwork(model), subject.texts)


def _acting(subject: Subject, model: Any) -> TunedModel:
    return TunedModel(TorchModel(f"tuned:{subject.source}", subject.texts, TorchEngine(model)), subject.tuned)


def _measures(subject: Subject, model: Any) -> Measures:
    numbers = [value.detach() for value in model.parameters()]
    count = sum(value.numel() for value in numbers)
    some = subject.questions[:: max(1, -(-len(subject.questions) // TIMED))]
    return Measures(
        size_bytes=sum(value.numel() * value.element_size() for value in numbers),
        parameters=count,
        zeros=sum(int((value == 0).sum()) for value in numbers) / count,
        decision_ms=decision_ms(_side(subject, model), some),
        memory_bytes=None,
    )


def _check_shares(model: Any, recipe: Compression) -> None:
    """Refuse axes of which a round takes out nothing: named ones, or all."""
    some = {kind_of(name): axis for name, axis in chosen(axes_of(model), recipe.axes).items()}  # all layers are alike
    counts = {kind: permitted(model.config, axis) for kind, axis in some.items()}
    sizes = {kind: axis.size for kind, axis in some.items()}
    for share in recipe.prune:
        fewer = {kind: staying(counts[kind], size, share) for kind, size in sizes.items()}
        whole = [kind for kind, size in fewer.items() if size == sizes[kind]]
        if whole and (recipe.axes or len(whole) == len(sizes)):
            kind, size = whole[0], sizes[whole[0]]
            less = max((count for count in counts[kind] if count < size), default=0)
            raise ConfigError(
                f"A share of {share:g} takes out none of this model's {size} {kind} (heads that share keys and values "
                "count as one, and transformers wants a number of heads that divides the width of the embeddings). "
                + (f"Type: --prune {-(100 * (less - size) // size) / 100:g}" if less else f"Type: --axis {UNITS}")
            )
        sizes = fewer
