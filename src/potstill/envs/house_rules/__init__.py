"""A workshop whose house rules stand in no prompt: an agent learns them from what goes wrong, or is told.

What it holds: ``HouseRulesEnvironment`` and ``HouseRulesTasks``. Needs nothing but Python; a step takes microseconds.
"""

from potstill.envs.house_rules.environment import HouseRulesEnvironment
from potstill.envs.house_rules.tasks import HouseRulesTasks

__all__ = ["HouseRulesEnvironment", "HouseRulesTasks"]
