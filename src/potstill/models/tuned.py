"""A language model that was tuned on a teacher's episodes: ``tuned:PATH``. Satisfies ``protocols.Model``.

It runs in PyTorch as it was tuned, or in CTranslate2 or llama.cpp as it was exported, and it keeps watch over its
prompts: demonstrations, a playbook or other instructions than those that it learnt with are refused, unless it is told
to take them. Such a prompt took a tuned SmolLM2-135M from 73 % of right choices to 34 %. What a student says of itself
is ``tuned_file``'s. Needs the extra ``lm``; a folder for CTranslate2 ``ct2``, a GGUF file ``local``.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any, Literal, Protocol

from potstill.errors import BadModelFile, ConfigError, MissingExtra
from potstill.models import gguf, local
from potstill.models.convert import load_transformers
from potstill.models.lm_texts import LmTexts
from potstill.models.reasoned import WITH_ACTION, ReasonsFirst
from potstill.models.torch_engine import TorchEngine, load_model, set_threads
from potstill.models.torch_lm import LmEngine, TorchModel, find_checkpoint
from potstill.models.tuned_file import (
    ALLOW,
    SCHEME,
    Engine,
    Tuned,
    check_files,
    check_sealed,
    read_tuned,
    weights_sha256,
)
from potstill.protocols import CandidateScorer, Capabilities, Model, TokenCounter
from potstill.types import Completion, Request

_CONTEXT_TOKENS = 2048
"""Of an export that does not say how many it takes."""


def open_tuned(
    folder: str | Path,
    *,
    base: str | None = None,
    allow_demonstrations: bool = False,
    threads: int | None = None,
    seed: int | None = None,
    timeout_s: float = 600.0,
) -> TunedModel:
    """Load a student from its folder, or from the file or folder that it was exported to.

    ``base``: where its base lies, if not where it lay when it was tuned; what was exported needs none.
    ``allow_demonstrations``: let prompts hold what it was not tuned with. Raises ``ConfigError`` for a place without a
    student, ``BadModelFile`` for a changed file or another base, ``MissingExtra``.
    """
    found = Path(folder).expanduser()
    tuned = read_tuned(found)
    check_sealed(found)
    name, threads = f"{SCHEME}{folder}", threads or local.default_threads()
    template: Literal["chat", "plain"] = "chat" if tuned.template == "chat" else "plain"
    inner: _Inner
    if tuned.engine is Engine.LLAMA_CPP:
        told = gguf.inspect(found)
        inner = local.loaded(
            name, told, threads=threads, template=template, act_by="likelihood", seed=seed, timeout_s=timeout_s
        )
    else:
        engine = _engine(found, tuned, base, threads)
        inner = TorchModel(name, LmTexts(found, template), engine, seed=seed, timeout_s=timeout_s)
    return TunedModel(inner, tuned, allow=allow_demonstrations)


def _engine(folder: Path, tuned: Tuned, base: str | None, threads: int) -> LmEngine:
    if tuned.engine is Engine.CTRANSLATE2:
        from potstill.models.ct2_engine import Ct2Engine, load_ctranslate2

        load_ctranslate2()
        check_files(folder, tuned)
        return Ct2Engine(folder, threads, tuned.context_tokens or _CONTEXT_TOKENS)
    load_transformers()
    check_files(folder, tuned)
    set_threads(threads)
    return TorchEngine(whole_model(folder, tuned, base))


def whole_model(folder: Path, tuned: Tuned, base: str | None = None) -> Any:
    """A student's weights in PyTorch, adapters added. Raises as ``open_tuned``."""
    return load_model(folder) if tuned.merged else with_adapter(load_model(_base(tuned, base)), folder)


def with_adapter(model: Any, folder: Path) -> Any:
    """The model with an adapter's weights added to its own. Raises ``BadModelFile`` for one of another shape."""
    peft = load_peft()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it asks transformers by an older name
            merged: Any = peft.PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (RuntimeError, ValueError, KeyError) as error:
        raise BadModelFile(
            f"The adapter in {folder} does not fit the model: {str(error).splitlines()[0]}. Give the base that it was "
            "tuned on."
        ) from None
    return merged.eval()


def load_peft() -> Any:
    """The package ``peft``. Raises ``MissingExtra``."""
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise MissingExtra("A tuned language model", "lm") from None


def _base(tuned: Tuned, named: str | None) -> Path:
    name = named or tuned.base.name
    try:
        folder = find_checkpoint(name)
    except (ConfigError, BadModelFile) as error:
        raise ConfigError(f"{error} The student was tuned on '{name}'. Type: --student-option base=PATH") from None
    sha256 = weights_sha256(folder)
    if sha256 != tuned.base.sha256:
        raise BadModelFile(
            f"'{name}' is not the model that this student was tuned on: its weights have the SHA-256 {sha256[:12]}..., "
            f"those of '{tuned.base.name}' had {tuned.base.sha256[:12]}... Type: --student-option base=PATH"
        )
    return folder


class _Inner(Model, CandidateScorer, TokenCounter, Protocol):
    """What a student is underneath."""

    def tokenize(self, text: str) -> tuple[int, ...]: ...

    async def render(self, request: Request) -> str: ...


class TunedModel:
    """A loaded student."""

    def __init__(self, model: _Inner, tuned: Tuned, *, allow: bool = False) -> None:
        self._model, self._allow = model, allow
        self._acting = ReasonsFirst(model) if tuned.voice.reasoning == WITH_ACTION else model
        self.tuned = tuned

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def capabilities(self) -> Capabilities:
        return self._acting.capabilities

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """As ``TorchModel.sample``; where it was tuned to reason, actions are weighed behind what it wrote.

        Raises ``ConfigError`` for a prompt with what it was not tuned with.
        """
        self._watch(request)
        return await self._acting.sample(request, n)

    async def score(self, request: Request) -> Completion:
        """As ``TorchModel.score``, behind its own reasoning where it was tuned to reason; raises as ``sample``."""
        self._watch(request)
        return await self._acting.score(request)

    async def weigh(self, request: Request) -> Completion:
        """As ``score``, and it never writes: what two runtimes of the same weights are compared by."""
        self._watch(request)
        return await self._model.score(request)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return self._model.tokenize(text)

    def count(self, text: str) -> int:
        return self._model.count(text)

    async def render(self, request: Request) -> str:
        return await self._model.render(request)

    async def aclose(self) -> None:
        await self._model.aclose()

    def _watch(self, request: Request) -> None:
        """A system message that it never saw is one to which something was added."""
        said = request.messages[0].content if request.messages and request.messages[0].role == "system" else ""
        if self._allow or self.tuned.demonstrations or said == self.tuned.instructions.strip():
            return
        added = said.startswith(self.tuned.instructions.strip())
        what = "demonstrations or a playbook added to it" if added else "other instructions"
        raise ConfigError(
            f"{self.name} was tuned with one system message and without demonstrations, and this prompt has {what}. "
            f"Leave them away, or type: --student-option {ALLOW}=true"
        )
