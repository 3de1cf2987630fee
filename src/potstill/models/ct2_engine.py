"""CTranslate2 underneath a tuned student: int8 on a CPU, no PyTorch. What ``torch_lm`` asks of an engine.

Knows: token ids in, log-probabilities and token ids out. A prompt is read once for all candidates of a question, or for
all samples; nothing is kept from one question to the next. Does not know texts, messages or requests.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from potstill.errors import BadModelFile, MissingExtra


def load_ctranslate2() -> Any:
    """The package ``ctranslate2``. Raises ``MissingExtra``."""
    try:
        return importlib.import_module("ctranslate2")
    except ImportError:
        raise MissingExtra("CTranslate2", "ct2") from None


class Ct2Engine:
    """A causal language model in a folder of CTranslate2. Not for use from two threads at once."""

    def __init__(self, folder: Path, threads: int, context_tokens: int) -> None:
        """Raises ``BadModelFile`` for a folder that CTranslate2 does not load, ``MissingExtra``."""
        package = load_ctranslate2()
        try:
            self._generator: Any = package.Generator(str(folder), device="cpu", inter_threads=1, intra_threads=threads)
            names: list[str] = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            end: str = json.loads((folder / "config.json").read_text(encoding="utf-8"))["eos_token"]
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise BadModelFile(f"CTranslate2 cannot load {folder}: {' '.join(str(error).split())[:300]}") from None
        self._names = names
        self.context_tokens = context_tokens
        self.ends = {names.index(end)} if end in names else set()
