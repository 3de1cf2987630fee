"""Search over recipes: what may vary, which trial goes on, what was found. Nothing is imported here.

``space``, ``labels``, ``weighing``, ``halving``, ``aim``, ``smaller`` and ``frontier`` are pure, ``trials`` has the
file, ``proposing`` asks Optuna, ``trying`` trains, ``variants`` makes smaller, ``searching`` is the whole of it.
"""
