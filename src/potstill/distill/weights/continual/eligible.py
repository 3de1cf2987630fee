"""Which policies can learn on. Reads a policy's kind and numbers; needs no PyTorch."""

from __future__ import annotations

import numpy as np

from potstill.edge.policy import Policy
from potstill.errors import ConfigError


def must_learn_on(policy: Policy) -> None:
    """Raise ``ConfigError`` for a policy of another kind than ``ranker``, or whose numbers were rounded."""
    if policy.kind != "ranker":
        raise ConfigError(
            f"A policy of the kind '{policy.kind}' cannot be trained on: only rankers can. Train it anew on old and "
            f"new episodes together: potstill distill weights --student {policy.kind} --out new.policy"
        )
    rounded = sorted({str(array.dtype) for array in policy.arrays.values() if array.dtype != np.float32})
    if rounded:
        raise ConfigError(
            f"A policy whose numbers were rounded ({', '.join(rounded)}) cannot be trained on: only float32 "
            "can. Give the file that was trained, before it was compressed."
        )
