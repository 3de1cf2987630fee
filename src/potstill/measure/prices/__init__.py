"""Dated list prices of models: a compiled snapshot, the user's own rows, and the cache rules of providers.

``PriceTable.load()`` reads all three. Nothing here looks at trajectories; see ``potstill.measure.ledger`` for costs.
"""

from potstill.measure.prices.cache_rules import CacheRule, cache_rule
from potstill.measure.prices.rows import ModelPrice, Period, Rates
from potstill.measure.prices.table import PriceTable

__all__ = ["CacheRule", "ModelPrice", "Period", "PriceTable", "Rates", "cache_rule"]
