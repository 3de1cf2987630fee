"""What a tuned language model says of itself: its base, how it was spoken to, and what every file must be.

It stands in ``student.json`` of a folder, or in a metadata entry of an exported GGUF file, and is read without PyTorch,
so that a run is refused before anything is loaded. Knows where it stands. Does not load weights (``tuned``), does not
train them (``distill.weights.lm``) and does not export them (``distill.weights.lm.exporting``).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path

import msgspec

from potstill.edge import seal
from potstill.errors import NOT_JSON, BadModelFile, ConfigError
from potstill.models import gguf
from potstill.types import Struct

STUDENT = "student.json"
FORMAT = "potstill/tuned"
VERSION = 1
SCHEME = "tuned:"
ALLOW = "allow_demonstrations"
"""The option of a tuned student that lets demonstrations and playbooks into its prompt all the same."""


class Engine(StrEnum):
    """What runs a student's weights."""

    TORCH = "torch"
    """An adapter or whole weights, in float32."""
    CTRANSLATE2 = "ctranslate2"
    LLAMA_CPP = "llama.cpp"
    """One GGUF file."""


class Base(Struct, frozen=True, kw_only=True):
    """The model that was tuned."""

    name: str
    """As it was named: a packaged model, or a path."""
    sha256: str
    """Of its weights (``weights_sha256``)."""


class Voice(Struct, frozen=True, kw_only=True):
    """How a student was spoken to while it learnt, which is how it must be spoken to (fields of ``run.arms.Agent``)."""

    reasoning: str = "none"
    history_turns: int | None = None
    list_admissible: bool = False


class Tuned(Struct, frozen=True, kw_only=True):
    """The file."""

    format: str = FORMAT
    version: int = VERSION
    base: Base
    engine: Engine = Engine.TORCH
    merged: bool = False
    """The folder holds whole weights; else an adapter in PEFT's format, which needs the base."""
    template: str
    """``chat`` or ``plain``."""
    environment: str
    instructions: str
    """The system message of all of its prompts, as ``run`` writes it without demonstrations."""
    voice: Voice
    demonstrations: int = 0
    """How many stood in each of its prompts; 0: it was tuned without any."""
    reasoned_by: dict[str, int] = msgspec.field(default_factory=dict)
    """Decisions that it learnt to reason about, by whose reasoning it was: ``teacher``, or made since by a template
    (``templated``) or a model (``sampled``, ``hinted``). Empty: it learnt none."""
    context_tokens: int | None = None
    """Tokens that it takes, prompt and answer; None where its weights say so."""
    files: dict[str, str]
    """SHA-256 of every other file of the folder; a GGUF file has none beside it."""


def read_tuned(path: Path) -> Tuned:
    """What a folder or a GGUF file says. Raises ``ConfigError`` where there is no tuned student, ``BadModelFile``."""
    where, text = _said(path)
    try:
        tuned = msgspec.json.decode(text, type=Tuned)
    except NOT_JSON as error:
        raise BadModelFile(f"{where} is damaged: {error}. Train the student again.") from None
    if tuned.format != FORMAT or not 1 <= tuned.version <= VERSION:
        raise BadModelFile(
            f"{where} is '{tuned.format}' version {tuned.version}; this potstill reads '{FORMAT}' version 1 to "
            f"{VERSION}."
        )
    return tuned


def _said(path: Path) -> tuple[str, bytes]:
    """Where a student speaks of itself, and the JSON there."""
    if path.suffix == gguf.SUFFIX:
        student = gguf.inspect(path).student
        if student is None:
            raise ConfigError(f"{path} holds no tuned student: it is another GGUF file. Type: local:{path}")
        return f"The entry '{gguf.STUDENT_KEY}' of {path}", student.encode()
    try:
        return str(path / STUDENT), (path / STUDENT).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} holds no tuned student ({STUDENT}: {error.strerror}). Type for example: "
            "potstill distill weights --student lm --base smollm2-135m --out student-lm"
        ) from None


def place_of(spec: str) -> Path:
    """The folder or file that ``tuned:PATH`` (or ``PATH``) names."""
    return Path(spec.removeprefix(SCHEME)).expanduser()


def tuned_of(spec: str | None) -> Tuned | None:
    """What the student that a spec names was tuned with; None where it is another kind of model. Raises as above."""
    if spec is None or not spec.startswith(SCHEME):
        return None
    return read_tuned(place_of(spec))


def refuse_tuned(path: Path) -> None:
    """Raises ``ConfigError`` for a tuned student's folder or file, which is opened with its prompts only;
    ``BadModelFile`` for a broken GGUF file."""
    file = path.suffix == gguf.SUFFIX and not path.is_dir()
    if (file and gguf.inspect(path).student is not None) or (path / STUDENT).is_file():
        raise ConfigError(f"{path} is a tuned student: its prompts must be those that it learnt. Type: {SCHEME}{path}")


def check_sealed(path: Path) -> None:
    """Raises ``BadModelFile`` for a folder's ``student.json``, or a GGUF file, that is not what its lineage beside it
    says, where there is one."""
    told = path if path.suffix == gguf.SUFFIX else path / STUDENT
    lineage = told.with_name(told.name + seal.BESIDE)
    if not lineage.exists():
        return
    try:
        texts = msgspec.json.decode(lineage.read_bytes(), type=dict[str, str])
    except (OSError, *NOT_JSON) as error:
        raise BadModelFile(f"Cannot read {lineage}: {error}. Take the student from a copy.") from None
    again = "Export" if path.suffix == gguf.SUFFIX else "Train"
    for sentence in seal.differences_beside(file_sha256(told), texts).values():
        raise BadModelFile(f"{told}: {sentence} {again} the student again, or take it from a copy.")


def check_files(folder: Path, tuned: Tuned) -> None:
    """Raises ``BadModelFile`` that names a file which is absent or was changed since it was written."""
    for name, sha256 in tuned.files.items():
        if Path(name).name != name:
            raise BadModelFile(f"{folder / STUDENT} names a file outside its folder: {name!r}.")
        if file_sha256(folder / name) != sha256:
            raise BadModelFile(
                f"{folder / name} was changed after it was written (the hash differs). Train the student again, or "
                "take it from a copy."
            )


def weights_sha256(checkpoint: Path) -> str:
    """One hash for the weights of a checkpoint folder. Raises ``BadModelFile`` where there are none."""
    files = sorted([*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.bin")])
    if not files:
        raise BadModelFile(f"{checkpoint} holds no weights (*.safetensors). Give a GGUF file or a whole checkpoint.")
    said = "".join(f"{path.name} {file_sha256(path)}\n" for path in files)
    return hashlib.sha256(said.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Raises ``BadModelFile`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadModelFile(f"Cannot read {path}: {error.strerror}.") from None
