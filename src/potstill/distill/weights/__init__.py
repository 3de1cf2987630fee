"""Recorded decisions of a teacher become a small policy or a tuned language model (docs/design/008-weights.md).

``losses`` say how far a student is from its teacher, ``soft_labels`` what a teacher's samples are worth as a target,
``fidelity`` how alike the two decide. Nothing is imported here: PyTorch is loaded by the modules that use it only.
"""
