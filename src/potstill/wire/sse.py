"""Server-sent events: bytes cut anywhere to frames, frames to bytes, and the frame of a dialect's stream decoder.

What it knows: the event stream format of the HTML standard (section 9.2.6: three line ends, comments, fields, several
``data`` lines), and what a stream that goes wrong means in ``wire.events``.
What it does not do: any dialect's JSON, reconnecting, sockets.

For an encoder: subclass ``FrameEncoder``, write ``write`` and ``broken`` and use ``encode(data, event)``. For a
decoder: subclass ``FrameDecoder`` and write ``read`` and ``end``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from potstill.errors import BadRequest, BadResponse, Untranslatable
from potstill.types import Struct
from potstill.wire.events import Broken, Done, Event

MAX_FRAME_BYTES = 16 * 1024 * 1024
PING = b": ping\n\n"
"""A comment: keeps a connection alive in every dialect and is ignored by every client."""
_BOM = b"\xef\xbb\xbf"


class Frame(Struct, frozen=True, kw_only=True):
    """One event of the stream. ``data`` is undecoded, its lines joined by ``\\n``."""

    data: bytes
    event: str = ""
    """Its name; empty where the server gave none (the standard then says ``message``)."""
    id: str | None = None


class Parser:
    """Bytes to frames.

    A frame ends with an empty line. One that the connection's end cut off is given by ``close`` all the same: some
    servers leave the last empty line out, and whoever decodes its data sees whether it is whole.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._tail = bytearray()
        self._scanned = 0
        self._skip_newline = False
        self._started = False
        self._data: list[bytes] = []
        self._event = ""
        self._id: str | None = None
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that are complete now; must be exhausted. Raises ``BadResponse`` for a frame that is too large,
        after those before it were given."""
        self._tail += chunk
        for line in self._lines():
            frame = self._take(line)
            if frame is not None:
                yield frame
        if self._size + len(self._tail) > self._max:
            raise self._too_large()

    def close(self) -> Iterator[Frame]:
        """What was left when the connection ended: at most one frame."""
        rest, self._tail = bytes(self._tail), bytearray()
        if rest:
            self._take(rest)
        frame = self._take(b"")
        if frame is not None:
            yield frame

    def _lines(self) -> Iterator[bytes]:
        """Whole lines out of the tail, without their ends."""
        if not self._started and not self._strip_bom():
            return
        start = 0
        tail = self._tail
        if self._skip_newline and tail:
            self._skip_newline = False
            if tail[0] == 10:
                start = 1
        lines: list[bytes] = []
        scan = max(start, self._scanned)
        while (end := _line_end(tail, scan)) >= 0:
            lines.append(bytes(tail[start:end]))
            start = end + 1
            if tail[end] == 13:
                if start == len(tail):
                    self._skip_newline = True
                elif tail[start] == 10:
                    start += 1
            scan = start
        del tail[:start]
        self._scanned = len(tail)
        yield from lines

    def _strip_bom(self) -> bool:
        """False: too little came to say whether a byte order mark leads."""
        if len(self._tail) < len(_BOM) and _BOM.startswith(self._tail):
            return False
        if self._tail.startswith(_BOM):
            del self._tail[: len(_BOM)]
        self._started = True
        return True

    def _take(self, line: bytes) -> Frame | None:
        if not line:
            return self._dispatch()
        if self._size + len(line) > self._max:
            raise self._too_large()
        field, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif field == b"event":
            self._event = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        return None

    def _dispatch(self) -> Frame | None:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        if not data:
            return None
        return Frame(data=b"\n".join(data), event=event, id=self._id)

    def _too_large(self) -> BadResponse:
        return BadResponse(f"the stream holds an event of more than {self._max} bytes")


def _line_end(buffer: bytearray, start: int) -> int:
    """Where the next ``\\n`` or ``\\r`` stands, or -1."""
    newline = buffer.find(b"\n", start)
    carriage = buffer.find(b"\r", start, newline if newline >= 0 else len(buffer))
    return carriage if carriage >= 0 else newline


def encode(data: bytes | str, event: str = "") -> bytes:
    """A frame's bytes. ``data`` may hold line ends (each line becomes a ``data`` line); ``event`` may not.

    >>> encode('{"a":1}', "ping")
    b'event: ping\\ndata: {"a":1}\\n\\n'
    """
    raw = data.encode() if isinstance(data, str) else data
    if b"\n" in raw or b"\r" in raw:
        raw = b"\ndata: ".join(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    head = b"event: " + event.encode() + b"\n" if event else b""
    return head + b"data: " + raw + b"\n\n"


class FrameEncoder(ABC):
    """A ``wire.dialect.StreamEncoder``: what every dialect's has in common.

    A subclass writes one event at a time. Whatever ``write`` raises because the dialect cannot say an event, or JSON
    cannot hold it, ends the stream with an error event: the client has seen half an answer by then, and a connection
    that is merely cut would tell it nothing. Nothing follows ``Done`` or ``Broken``.
    """

    def __init__(self) -> None:
        self._over = False
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        return self._failure

    @abstractmethod
    def write(self, event: Event) -> bytes:
        """The frames that an event other than ``Broken`` means."""

    @abstractmethod
    def broken(self, event: Broken) -> bytes:
        """The error event that ends the stream. Must not raise."""

    def encode(self, event: Event) -> bytes:
        if self._over:
            return b""
        self._over = isinstance(event, Broken | Done)
        try:
            return self._end(event) if isinstance(event, Broken) else self.write(event)
        except Untranslatable as error:
            return self._fail(str(error), "invalid_request")
        except (BadRequest, BadResponse, RecursionError, TypeError, ValueError) as error:
            return self._fail(f"the answer cannot be told on: {error}", "upstream")

    def _fail(self, message: str, kind: str) -> bytes:
        self._failure, self._over = message, True
        return self._end(Broken(message=message, kind=kind))

    def _end(self, event: Broken) -> bytes:
        said = event.message.encode(errors="replace").decode()
        return self.broken(msgspec.structs.replace(event, message=said))


class FrameDecoder(ABC):
    """A ``wire.dialect.StreamDecoder``: what every dialect's has in common.

    A subclass translates one frame at a time. It raises ``BadResponse`` for what is not its dialect, which becomes
    ``Broken``. After ``Broken`` or ``Done`` the stream is over and whatever follows is ignored.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._parser = Parser(max_frame_bytes)
        self._over = False

    @abstractmethod
    def read(self, frame: Frame) -> Iterable[Event]:
        """The events that a frame means."""

    def end(self) -> Iterable[Event]:
        """What the connection's end means where no ``Done`` came: by default that the answer was cut off. A dialect
        whose servers forget their last word may know better."""
        return (Broken(message="the upstream closed the connection before its answer was complete", kind="upstream"),)

    def feed(self, chunk: bytes) -> Sequence[Event]:
        events: list[Event] = []
        if not self._over:
            self._collect(self._parser.feed(chunk), events)
        return events

    def close(self) -> Sequence[Event]:
        events: list[Event] = []
        if not self._over:
            self._collect(self._parser.close(), events)
        if not self._over:
            events.extend(self.end())
            self._over = True
        return events

    def _collect(self, frames: Iterator[Frame], events: list[Event]) -> None:
        try:
            for frame in frames:
                for event in self.read(frame):
                    events.append(event)
                    if isinstance(event, Broken | Done):
                        self._over = True
                        return
        except BadResponse as error:
            self._break(str(error), events)
        except RecursionError:
            self._break("the stream holds an event that is nested too deeply", events)

    def _break(self, message: str, events: list[Event]) -> None:
        events.append(Broken(message=message, kind="upstream"))
        self._over = True
