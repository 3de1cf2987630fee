"""Zip archives whose members may be packed with Zstandard: of Python 3.14's standard library, else a backport."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    import zipfile
else:
    from backports.zstd import zipfile

__all__ = ["zipfile"]
