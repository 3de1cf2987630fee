"""The two finance tasks of arXiv 2510.04618: tags for numbers in filings (FiNER) and formulas with numbers (Formula).

What it holds: ``FinanceEnvironment`` and ``FinanceTasks``. The questions come from files of the user's own; nothing is
fetched.
"""

from potstill.envs.finance.environment import FinanceEnvironment
from potstill.envs.finance.tasks import FinanceTasks

__all__ = ["FinanceEnvironment", "FinanceTasks"]
