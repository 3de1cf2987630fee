"""Debates as data: a graph of turns (``graph``), their file (``lines``), pairs to learn from (``contrast``), and those
that policies hold about recorded situations (``holding``)."""
