"""What a killed run goes on from: one file that is always whole, and that says which run it belongs to.

It holds weights, the optimizer's moments, the generator of random numbers, the position and the best weights so far.
Written beside and renamed, after an fsync: a kill leaves the earlier one. Read without running any code in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.distill.weights.identity import must_be_equal
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.durable import replacing
from potstill.errors import ConfigError

FORMAT = 1


def write_checkpoint(path: Path, identity: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Replace the file as a whole. ``identity``: everything that must be equal in the run that goes on from it."""
    content = {"format": FORMAT, "identity": dict(identity), **state}
    with replacing(path) as file:
        load_torch().save(content, file)


def read_checkpoint(path: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote. Raises ``ConfigError`` for another run's, or something that is no checkpoint."""
    try:
        content = load_torch().load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"There is no checkpoint {path} to resume. Leave --resume away to begin anew.") from None
    except Exception as error:
        raise ConfigError(
            f"{path} is not a checkpoint that can be read ({type(error).__name__}). Remove it to begin anew."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{path} is no checkpoint of this version (format {FORMAT}). Remove it to begin anew.")
    must_be_equal(f"The checkpoint {path} belongs to another training", content["identity"], identity)
    return content
