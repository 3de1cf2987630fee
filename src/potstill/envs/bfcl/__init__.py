"""Multi-turn function calling of the Berkeley leaderboard: tools with state, gold calls as teacher, checked outcome.

What it holds: ``BfclEnvironment`` and ``BfclTasks``. Needs ``mpmath`` and ``bfcl-eval`` (installed with ``--no-deps``).
"""

from potstill.envs.bfcl.environment import BfclEnvironment
from potstill.envs.bfcl.tasks import BfclTasks

__all__ = ["BfclEnvironment", "BfclTasks"]
