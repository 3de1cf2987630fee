"""How good actions were that a policy took: generalised advantages of recorded rewards. Pure functions of arrays.

Letters: T steps of E environments side by side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


def advantages(
    rewards_TE: Doubles,
    values_TE: Doubles,
    next_values_TE: Doubles,
    ended_TE: Bools,
    cut_TE: Bools,
    *,
    discount: float = 0.99,
    mixture: float = 0.95,
) -> Doubles:
    """``sum_k (discount * mixture)^k delta_(t+k)``, ``delta = r + discount V(next) - V`` (arXiv 1506.02438, eq. 16).

    The sum stops where an episode is over. ``ended``: by the task, so that nothing comes after it (V(next) counts 0);
    ``cut``: by a limit of steps, so that V(next), of what was seen last, stands for what would have come.

    Raises ``ConfigError`` for a reward that is no number.
    """
    refuse_no_number(rewards_TE)
    found = np.zeros_like(rewards_TE)
    after_E = np.zeros(rewards_TE.shape[1])
    for t in reversed(range(len(rewards_TE))):
        over_E = ended_TE[t] | cut_TE[t]
        delta_E = rewards_TE[t] + discount * next_values_TE[t] * ~ended_TE[t] - values_TE[t]
        after_E = delta_E + discount * mixture * after_E * ~over_E
        found[t] = after_E
    return found


def refuse_no_number(rewards_TE: Doubles) -> None:
    """Raise ``ConfigError`` that names the first reward which is NaN or infinite."""
    wrong = np.argwhere(~np.isfinite(rewards_TE))
    if len(wrong):
        step, environment = wrong[0].tolist()
        raise ConfigError(
            f"The reward of environment {environment} at step {step} is {rewards_TE[step, environment]}: it is no "
            "number, and one such reward would spoil every weight. Mend the environment's reward."
        )
