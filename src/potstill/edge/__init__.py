"""Reads and runs small trained policies with numpy and the standard library, nothing else.

This folder imports nothing outside itself and numpy, so it can be copied to a small machine as it is
(``potstill edge copy DIR``) and started there (``python -m edge FILE``). It does not train, and does not know what a
model, a trajectory or a gateway is. Licence: Apache-2.0, as potstill's.
"""
