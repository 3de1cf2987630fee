"""What is to be read: paths as the user typed them, into files that can be opened, decompressed and counted.

What it knows: folders, standard input, gzip, Zstandard, the first bytes of things that are no logs. What it does not
do: formats.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

from potstill import zstandard
from potstill.errors import ConfigError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".gz", ".zst", ".traj", ".eval")
"""Files of these names are read where a folder is given."""
STDIN = "-"
BUFFER_BYTES = 2**20
Progress = Callable[[int], None]
"""Told how many bytes of the file were read so far."""

_FOREIGN = {
    b"BZh": "it is compressed with bzip2. Type: bunzip2 FILE",
    b"\xfd7zXZ": "it is compressed with xz. Type: unxz FILE",
    b"PAR1": "it is Parquet; export it as JSON lines or CSV",
    b"SQLite format 3": "it is an SQLite database, not a log",
    b"\xff\xfe": "it is UTF-16. Type: iconv -f UTF-16 -t UTF-8 FILE > NEW",
    b"\xfe\xff": "it is UTF-16. Type: iconv -f UTF-16 -t UTF-8 FILE > NEW",
}
GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"


class Input(NamedTuple):
    """One file. ``named``: by the user, so that not to understand it is an error; files of a folder may be others."""

    path: str
    size: int
    named: bool = True


def inputs(paths: Sequence[str | os.PathLike[str]]) -> list[Input]:
    """The files that ``paths`` mean, folders walked in order of names, each file once. Raises ``ConfigError``."""
    if not paths:
        raise ConfigError("Nothing to read. Name files or folders, or - for standard input.")
    found: list[Input] = []
    for given in paths:
        path = os.fspath(given)
        if path == STDIN:
            found.append(Input(STDIN, 0))
        elif os.path.isdir(path):
            found.extend(_walked(path))
        else:
            found.append(Input(path, _size(path)))
    if sum(each.path == STDIN for each in found) > 1:
        raise ConfigError("Standard input (-) is named more than once; it can be read only once.")
    once: dict[str, Input] = {}
    for each in found:
        once.setdefault(STDIN if each.path == STDIN else os.path.realpath(each.path), each)
    return list(once.values())


def _size(path: str) -> int:
    try:
        with open(path, "rb"):
            return os.stat(path).st_size
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file '{path}'. Name files or folders, or - for standard input.") from error
    except OSError as error:
        raise ConfigError(f"Cannot read '{path}': {error.strerror or error}.") from error


def _walked(folder: str) -> list[Input]:
    found = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.lower().endswith(SUFFIXES) and os.path.isfile(path):
                found.append(Input(path, _size(path), named=False))
    if not found:
        raise ConfigError(f"The folder '{folder}' has no logs: files of logs end in {', '.join(SUFFIXES)}.")
    return found


class Opener:
    """Opens one input, as often as it takes; standard input only once, unless ``keep`` was called before."""

    def __init__(self, source: Input, progress: Progress | None = None) -> None:
        self.source = source
        self._progress = progress
        self.damage = ""
        """What went wrong when ``peek`` read, in words; it gives what stands before the damage."""
        self._start = b""
        self._kept: BinaryIO | None = None
        self._rest: io.BufferedReader | None = None

    def peek(self, size: int) -> bytes:
        """The first ``size`` bytes, decompressed, or all there is. Raises ``OSError`` and others for broken gzip."""
        if self.source.path != STDIN:
            with self._opened(None) as file:
                found, self.damage = _up_to(file, size)
                return found
        found, self.damage = _up_to(self._stdin(), size - len(self._start))
        self._start += found
        return self._start[:size]

    @property
    def plain(self) -> bool:
        """True for a file on disk that is not compressed: any part of it can be read alone."""
        if self.source.path == STDIN:
            return False
        with open(self.source.path, "rb") as file:
            return not file.read(4).startswith((GZIP, zstandard.MAGIC))

    def keep(self) -> None:
        """Put standard input into a temporary file, so that it can be opened again."""
        if self.source.path == STDIN and self._kept is None:
            kept = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
            kept.write(self._start)
            shutil.copyfileobj(self._stdin(), kept, BUFFER_BYTES)
            self._kept = kept

    def open(self) -> BinaryIO:
        """The file from its start, decompressed, past a byte order mark; it counts the bytes read as progress."""
        file = self._opened(self._progress)
        if file.peek(3)[:3] == codecs.BOM_UTF8:
            file.read(3)
        return cast(BinaryIO, file)

    def _opened(self, progress: Progress | None) -> io.BufferedReader:
        raw: BinaryIO
        if self.source.path != STDIN:
            raw = cast(BinaryIO, open(self.source.path, "rb", buffering=0))  # noqa: SIM115
        elif self._kept is not None:
            self._kept.seek(0)
            raw = open(os.dup(self._kept.fileno()), "rb", buffering=0)  # noqa: SIM115
        else:
            raw = cast(BinaryIO, _Joined(self._start, self._stdin()))
        return _decompressed(io.BufferedReader(_Counted(raw, progress), BUFFER_BYTES))

    def _stdin(self) -> io.BufferedReader:
        if self._rest is None:
            self._rest = _decompressed(cast(io.BufferedReader, sys.stdin.buffer))
        return self._rest


def _decompressed(file: io.BufferedReader) -> io.BufferedReader:
    if file.peek(2)[:2] == GZIP:
        return io.BufferedReader(_Unpacked(gzip.GzipFile(fileobj=file)), BUFFER_BYTES)
    if file.peek(4)[:4] == zstandard.MAGIC:
        return io.BufferedReader(_Unpacked(zstandard.ZstdFile(file)), BUFFER_BYTES)
    return file


def _up_to(file: io.BufferedReader, size: int) -> tuple[bytes, str]:
    """The next ``size`` bytes, or all there are; of a damaged file what can be had, and what is wrong with it.

    Raises if nothing can be had.
    """
    found, damage = b"", ""
    try:
        while len(found) < size and (block := file.read1(min(BUFFER_BYTES, size - len(found)))):
            found += block
    except (OSError, EOFError, zlib.error) as error:
        if not found:
            raise
        damage = str(error)
    return found, damage


class _Counted(io.RawIOBase):
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, progress: Progress | None) -> None:
        self._file = file
        self._progress = progress
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = cast(io.FileIO, self._file).readinto(buffer) or 0
        self._done += count
        if self._progress is not None:
            self._progress(self._done)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """Gzip or Zstandard in small steps, so that of a damaged file all that stands before the damage is had."""

    def __init__(self, file: gzip.GzipFile | zstandard.ZstdFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._file.read1(len(buffer))
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        buffer[: len(block)] = block
        return len(block)


class _Joined(io.RawIOBase):
    """What was read of standard input already, and then the rest of it."""

    def __init__(self, start: bytes, rest: io.BufferedReader) -> None:
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._start[: len(buffer)] or self._rest.read1(len(buffer))
        self._start = self._start[len(block) :]
        buffer[: len(block)] = block
        return len(block)


def foreign(start: bytes) -> str:
    """What a file is that is no log, with what to do about it; empty for what may be one."""
    return next((told for magic, told in _FOREIGN.items() if start.startswith(magic)), "")
