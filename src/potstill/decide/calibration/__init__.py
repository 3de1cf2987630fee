"""Calibration: from recorded samples and a teacher's labels to a threshold that provably keeps the teacher's success.

``units`` (decisions as arrays, votes), ``candidates`` (what may be chosen), ``isotonic`` and ``score`` (a learned
score), ``losses`` (one candidate's test), ``paths`` (the order of the tests), ``certify`` (all tests and the choice).
Design and proofs: docs/design/004-calibration.md. Import from the modules.
"""
