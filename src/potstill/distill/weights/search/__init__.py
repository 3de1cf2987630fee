"""Search over recipes: what may vary, which trial goes on, what was found. Nothing is imported here.

``space``, ``halving`` and ``frontier`` are pure, ``trials`` has the file, ``proposing`` asks Optuna, ``trying`` trains,
``searching`` is the whole of it.
"""
