"""Gymnasium's control tasks: CartPole-v1, LunarLander-v3 and Acrobot-v1 as environments with named actions.

What it holds: an ``Environment`` and a ``TaskSource`` for each. Needs the extra ``control``.
"""

from potstill.envs.control.environment import AcrobotEnvironment, CartPoleEnvironment, LunarLanderEnvironment
from potstill.envs.control.tasks import AcrobotTasks, CartPoleTasks, LunarLanderTasks

__all__ = [
    "AcrobotEnvironment",
    "AcrobotTasks",
    "CartPoleEnvironment",
    "CartPoleTasks",
    "LunarLanderEnvironment",
    "LunarLanderTasks",
]
