"""Zstandard: of the standard library where it has it (Python 3.14), else a backport.

Logs read it, the journal of exchanges writes it. Zip archives that use it are ``logs.zipped``'s.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDict, ZstdError, ZstdFile, compress, decompress
else:
    from backports.zstd import ZstdDict, ZstdError, ZstdFile, compress, decompress

MAGIC = b"\x28\xb5\x2f\xfd"

__all__ = ["MAGIC", "ZstdDict", "ZstdError", "ZstdFile", "compress", "decompress"]
