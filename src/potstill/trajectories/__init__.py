"""Where episodes are kept: the SQLite store, its retention, and the ways in and out (JSONL, OpenAI chat, Parquet).

``from potstill.trajectories import Store`` is the usual start. Importing this package loads sqlite3 and msgspec only;
numpy and pyarrow load in the functions that need them. No prices, no models, no environments.

No key may ever reach a store: callers redact before they append (``record`` does); the store keeps what it is given.
"""

from potstill.trajectories.store import Store

__all__ = ["Store"]
