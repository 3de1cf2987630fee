"""Language-conditioned grid worlds (BabyAI, arXiv 1810.08272) with their bot as teacher; from wheels alone.

What it holds: ``MinigridEnvironment`` and ``MinigridTasks``. Needs the extra ``minigrid``.
"""

from potstill.envs.minigrid.environment import MinigridEnvironment
from potstill.envs.minigrid.tasks import MinigridTasks

__all__ = ["MinigridEnvironment", "MinigridTasks"]
