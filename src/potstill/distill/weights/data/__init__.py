"""Recorded episodes as data to learn from: labelled decisions, split by task, without repetition, on the disk or not.

``build`` makes them in memory, ``write`` into a folder (``read`` gives them back, checked), ``Labelled`` is one.
Numpy and msgspec only: PyTorch begins where texts become numbers (``policies``).
"""

from potstill.distill.weights.data.build import Built, build
from potstill.distill.weights.data.dataset import write
from potstill.distill.weights.data.labelled import Evidence, Labelled, probabilities
from potstill.distill.weights.data.leakage import Equal, refuse_leakage
from potstill.distill.weights.data.manifest import Manifest, digest_of
from potstill.distill.weights.data.shards import read, read_manifest

__all__ = [
    "Built",
    "Equal",
    "Evidence",
    "Labelled",
    "Manifest",
    "build",
    "digest_of",
    "probabilities",
    "read",
    "read_manifest",
    "refuse_leakage",
    "write",
]
