"""A proxy between a client and a server that can make the line between them bad: for tests and drills.

It knows nothing of what goes through it. Faults are set from code while calls run, so a test decides when a line falls
silent and when it comes back, and need not hope that a machine is busy enough.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from finevla_runtime.contracts.errors import SetupError

Result = TypeVar("Result")

PIECE_BYTES = 65_536
# A dripping line lets a piece through so many times a second.
DRIPS_HZ = 50.0
# What the proxy itself does takes no time worth mentioning; a thread that has died must not hang a test.
OWN_WORK_S = 10.0


@dataclass(frozen=True)
class Line:
    """How a line is; the default is a good one.

    Attributes:
        delay_s: what goes into the line, either way, comes out so much later.
        bytes_per_s: what goes through it each way; 0 lets everything through at once.
        silent: takes connections and data and passes nothing on; what was held comes out when it is silent no more.
        refuses: takes no connections; those that there are stay.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    silent: bool = False
    refuses: bool = False

    def __post_init__(self) -> None:
        """Refuse times and rates that mean nothing (SetupError FV-NET-010)."""
        for name in ("delay_s", "bytes_per_s"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise SetupError("FV-NET-010", f"{name} of a line is {value}; wanted a finite number, 0 or more.")


GOOD_LINE = Line()


@dataclass(frozen=True)
class _Piece:
    data: bytes
    came_s: float


class FaultProxy:
    """Listens on this machine and passes everything on to ``target``, as well as the line allows.

    ``target`` (``host:port``) may be changed: connections that come later go there, as to a server that was restarted.
    """

    def __init__(self, target: str) -> None:
        """Listen, with a good line to ``target``."""
        self.target = target
        self._port = 0
        self._line = GOOD_LINE
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._run(self._become(GOOD_LINE))

    @property
    def address(self) -> str:
        """Return ``host:port`` for clients; it stays the same, whatever happens to the line."""
        return f"127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._writers) // 2

    def become(self, line: Line) -> None:
        """Make the line another one from now on, for what is in it as well."""
        self._run(self._become(line))

    def heal(self) -> None:
        """Make the line a good one."""
        self.become(GOOD_LINE)

    def cut(self) -> None:
        """Break every connection now; new ones are taken if the line takes any."""
        self._run(self._cut())

    def close(self) -> None:
        """Break every connection and listen no more; closing twice is no error."""
        if self._loop.is_closed():
            return
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(OWN_WORK_S)
        self._loop.close()

    def _run(self, work: Coroutine[object, object, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(OWN_WORK_S)

    async def _become(self, line: Line) -> None:
        self._line = line
        self._changed.set()
        self._changed = asyncio.Event()
        if line.refuses and self._server is not None:
            self._server.close()
            self._server = None
        elif not line.refuses and self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._become(Line(refuses=True))
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client and the target say, until one of them has said its last."""
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            # Nobody is at home there, and the client learns it as it would without a proxy: the connection ends.
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        ways = [
            asyncio.ensure_future(self._way(reader, far_writer)),
            asyncio.ensure_future(self._way(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers -= ends
            for way in ways:
                way.cancel()
            for end in ends:
                end.close()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one direction; reading goes on while pieces wait, so that a delay does not add up."""
        pieces: asyncio.Queue[_Piece | None] = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(reader, pieces))
        try:
            while (piece := await pieces.get()) is not None:
                await self._held(piece)
                await self._pass_on(piece.data, writer)
        except ConnectionError:
            return
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[_Piece | None]) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                pieces.put_nowait(_Piece(data, self._loop.time()))
        pieces.put_nowait(None)

    async def _held(self, piece: _Piece) -> None:
        """Wait until the line, as it is then, lets a piece out."""
        while True:
            left_s = None if self._line.silent else piece.came_s + self._line.delay_s - self._loop.time()
            if left_s is not None and left_s <= 0.0:
                return
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left_s)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            rate = self._line.bytes_per_s
            size = max(1, int(rate / DRIPS_HZ)) if rate else len(data)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if rate:
                changed = self._changed
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), size / rate)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
