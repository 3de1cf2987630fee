"""Search over recipes: what may vary, which trial goes on, what was found. Nothing is imported here.

``space``, ``halving``, ``trials`` and ``frontier`` are pure, ``proposing`` asks Optuna, ``trying`` trains, ``searching``
is the whole of it.
"""
