"""What a policy's file must say of itself before it is run: hashes of its arrays, its configuration and its manifest.

They find what was changed by accident or by hand. Who can write the file can make them again: against that a manifest
is signed, or named by those that come after it (``potstill lineage verify``). Knows hashes, not who taught what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .tensors import Array, BadFile

CONFIG, MANIFEST, SEAL, SIGNATURE = "potstill.config", "potstill.manifest", "potstill.seal", "potstill.signature"
"""The texts in the file's metadata: two JSON objects, the SHA-256 of the second, and maybe a signature of it."""
BESIDE = ".lineage.json"
"""Behind the name of a file whose texts (manifest, seal, signature) lie beside it."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values are equal texts. Raises ``ValueError`` for NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def text_sha256(text: str) -> str:
    """Lower-case hexadecimal SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def arrays_sha256(arrays: Mapping[str, Array]) -> str:
    """The hash of names, types, shapes and values, whatever their order in a file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        little = np.asarray(arrays[name]).astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        head = canonical([name, little.dtype.str, list(little.shape)]).encode("utf-8", "surrogatepass")
        digest.update(len(head).to_bytes(8, "little") + head + little.tobytes())
    return digest.hexdigest()


def differences(arrays: Mapping[str, Array], texts: Mapping[str, str]) -> dict[str, str]:
    """What is not as it was written: ``manifest``, ``configuration``, ``arrays``, each with a sentence."""
    absent = [name for name in (CONFIG, MANIFEST, SEAL) if name not in texts]
    if absent:
        return {"manifest": f"It has no '{absent[0]}': it is no policy, or was stripped of its lineage."}
    found = {}
    if text_sha256(texts[MANIFEST]) != texts[SEAL]:
        found["manifest"] = "Its manifest was changed after it was written (the hash differs)."
    said = _object(texts[MANIFEST]) or {}
    if text_sha256(texts[CONFIG]) != said.get("config_sha256"):
        found["configuration"] = "Its configuration was changed after it was written (the hash differs)."
    if arrays_sha256(arrays) != said.get("arrays_sha256"):
        found["arrays"] = "Its arrays were changed after it was written (the hash differs)."
    return found


def differences_beside(file_sha256: str, texts: Mapping[str, str]) -> dict[str, str]:
    """The same of a file whose texts lie beside it: ``manifest``, ``file``, each with a sentence."""
    found, said = {}, _object(texts.get(MANIFEST, "")) or {}
    if text_sha256(texts.get(MANIFEST, "")) != texts.get(SEAL):
        found["manifest"] = "Its manifest was changed after it was written (the hash differs)."
    if file_sha256 != said.get("file_sha256"):
        found["file"] = "The file was changed after it was written (the hash differs)."
    return found


def opened(arrays: Mapping[str, Array], texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and manifest of a file, if nothing differs. Raises ``BadFile`` saying what does."""
    for sentence in differences(arrays, texts).values():
        raise BadFile(sentence)
    config, manifest = _object(texts[CONFIG]), _object(texts[MANIFEST])
    if config is None or manifest is None:
        raise BadFile("Its configuration or manifest is not a JSON object.")
    return config, manifest


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
