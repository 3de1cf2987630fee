"""Zstandard, and zip archives that use it: of the standard library where it has them (Python 3.14), else a backport."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile, zipfile

MAGIC = b"\x28\xb5\x2f\xfd"

__all__ = ["MAGIC", "ZstdError", "ZstdFile", "zipfile"]
