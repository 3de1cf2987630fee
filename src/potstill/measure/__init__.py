"""Measuring: what episodes cost, what they achieve, and whether the difference can be believed.

It reads trajectories and price tables only, so it also measures agents that never ran in potstill's own loop.
Import from the modules: ``summary`` (``summarise``), ``cache`` (``ledger``), ``ledger`` (``cost_of``), ``statistics``,
``frontier``, ``breakeven``, ``prices`` and ``report``; this file stays empty so that each costs only what it uses.
"""
