"""A GGUF file as a PyTorch checkpoint folder: converted once, kept beside the GGUF cache.

Knows: how transformers reads GGUF, and how to save what it refuses to save (it marks the weights as quantised although
it has just dequantised them). Weights are float32: nothing is lost on the way. Needs the extra ``lm``.
Does not run models (``torch_lm``).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.errors import BadModelFile, MissingExtra
from potstill.locks import exclusive
from potstill.models import gguf, packages
from potstill.models.packages import Progress


def checkpoint(path: Path, *, progress: Progress | None = None) -> Path:
    """The checkpoint folder of a GGUF file; of a folder that is one already, that folder.

    The first call takes about a minute and four bytes a weight on disk (0.54 GB for SmolLM2-135M).
    Raises ``BadModelFile``, ``MissingExtra``.
    """
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BadModelFile(f"{path} is no model folder: it has no config.json. Give a GGUF file or a checkpoint.")
        return path
    gguf.inspect(path)
    stat = path.stat()
    folder = packages.cache_dir() / "torch" / f"{path.stem}-{stat.st_size:x}-{stat.st_mtime_ns:x}"
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_suffix(".lock")):
        if not (folder / "config.json").is_file():
            if progress is not None:
                progress(f"converting {path.name} for PyTorch, once (about a minute)")
            _convert(path, folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".part", dir=folder.parent))
    try:
        with offline():
            transformers = load_transformers()
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
            loaded = transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name)
            config = loaded.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            plain = type(loaded)._from_config(config)
            plain.load_state_dict(loaded.state_dict())
            plain.save_pretrained(str(temporary))
            tokenizer.save_pretrained(str(temporary))
        os.replace(temporary, folder)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise BadModelFile(f"transformers cannot convert {path}: {error}. Use it as local: instead.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_transformers() -> Any:
    """The transformers package, quiet. Raises ``MissingExtra``."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads: threads that wait do not spin
    try:
        for name in ("torch", "accelerate", "gguf"):
            importlib.import_module(name)
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("A local model in PyTorch", "lm") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep transformers from asking a model hub about files that are complete here."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
