"""Rollout stages over several processes: rows in the store, changed by compare-and-set, looked at every second.

What it knows: which stage a route is in, the kill switch, what was observed here and not yet written. What it does not
do: decide on stages (``decide.rollout``), ask models, time anything: clocks come in.

Observations are gathered in memory and folded into the row at the next ``tick``; another process that wrote in between
is read again and nothing is counted twice. A process that is killed loses the observations of about a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import msgspec

from potstill.decide import drift, rollout
from potstill.decide.assignment import Route as Served
from potstill.decide.assignment import assign
from potstill.errors import ConfigError, StoreError, UnknownName
from potstill.serve.rollout.rows import (
    Corrected,
    Ended,
    Event,
    Shadowed,
    StageRow,
    acted_on,
    begun,
    fitted,
    stepped,
    widened,
    with_events,
)
from potstill.serve.rollout.trust import Trust
from potstill.serve.settings import Mode
from potstill.types import Struct

log = logging.getLogger(__name__)
T = TypeVar("T")

KIND = "rollout"
SWITCH = ("switch", "all")
POLL_S = 1.0
STALE_S = 3.0
"""A state that was last read longer ago is not served by: the teacher answers."""
PATIENCE_S = 0.25
"""How long a request waits for the state to be read."""
KILL_S = 5.0
"""How long whoever throws the kill switch waits for the store."""
UNHURRIED_S = 10.0
"""How long work that nobody waits for gives the store."""
STEP_S = 10.0
"""How often the machine looks where nothing was observed."""
_TRIES = 20
_WAITING = 10_000
"""Observations that wait for a store that is away; the oldest go first."""

ACTS: Mapping[str, Callable[[rollout.RolloutState, float], rollout.RolloutState]] = {
    "freeze": lambda state, now: rollout.freeze(state),
    "unfreeze": lambda state, now: rollout.unfreeze(state),
    "kill": lambda state, now: rollout.kill(state),
    "release": rollout.release,
    "recalibrated": rollout.recalibrated,
}
ROLLING_ONLY = frozenset({"freeze", "unfreeze", "recalibrated"})
"""Acts that change nothing where evidence does not move a route."""
_BY_MODE = {
    Mode.SHADOW: rollout.Stage.SHADOW,
    Mode.CASCADE: rollout.Stage.LIVE,
    Mode.STUDENT: rollout.Stage.LIVE,
}


class StateStore(Protocol):
    """Rows of JSON with a version. Synchronous: called from a thread."""

    def get_state(self, kind: str, key: str) -> tuple[int, Any] | None:
        """Version and value; None where there is no row."""

    def put_state(self, kind: str, key: str, value: Any, expected_version: int) -> bool:
        """False, and nothing changed, if the row's version is another one (0: there is no row)."""


def plain(value: Struct) -> Any:
    """As JSON would give it back: what state rows are compared with."""
    return msgspec.json.decode(msgspec.json.encode(value))


class MemoryState:
    """State rows of one process without a store."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._lock = threading.Lock()

    def get_state(self, kind: str, key: str) -> tuple[int, Any] | None:
        with self._lock:
            found = self._rows.get((kind, key))
        return None if found is None else (found[0], msgspec.json.decode(found[1]))

    def put_state(self, kind: str, key: str, value: Any, expected_version: int) -> bool:
        with self._lock:
            version = self._rows.get((kind, key), (0, b""))[0]
            if version != expected_version:
                return False
            self._rows[kind, key] = (version + 1, msgspec.json.encode(value))
            return True


class Switch(Struct, frozen=True, kw_only=True):
    """The kill switch over all routes."""

    killed: bool = False
    at: float = 0.0
    by: str = ""


class Assigned(Struct, frozen=True, kw_only=True):
    """How an episode is served now."""

    served: Served
    stage: rollout.Stage
    entered_at: float = 0.0
    widening: drift.Widening | None = None
    note: str = ""
    """Why nothing but the teacher is asked, where the state could not be read."""

    @property
    def label(self) -> str:
        """As records hold it: ``canary/cascade``."""
        return f"{self.stage}/{self.served}"


def _row_of(trust: Trust, value: Any) -> StageRow:
    return fitted(msgspec.convert(value, StageRow), trust.plan)


class Stages:
    """The stages of all routes as this process sees them. One event loop."""

    def __init__(self, trusts: Mapping[str, Trust], store: StateStore, clock: Callable[[], float]) -> None:
        self._trusts = dict(trusts)
        self.staged = [name for name, trust in trusts.items() if trust.route.mode is not Mode.RECORD]
        """Routes with a rollout's row."""
        self._store = store
        self._clock = clock
        self._adopted: set[str] = set()
        self._rows: dict[str, StageRow] = {}
        self._switch = Switch()
        self._unwritten: Switch | None = None
        """Thrown here, and not known to the store yet."""
        self._events: dict[str, deque[Event]] = {name: deque(maxlen=_WAITING) for name in self.staged}
        self._read_at = float("-inf")
        self._stepped_at = float("-inf")
        self._busy = asyncio.Lock()
        self._threads = ThreadPoolExecutor(1, "potstill-stages")
        self._reading: asyncio.Task[bool] | None = None
        self._again_at = float("-inf")
        self.failures = 0
        """Times that the store could not be read or written."""

    # --- how an episode is served -----------------------------------------------------------------------------------

    def assigned(self, name: str, episode: str) -> Assigned:
        """For an episode of one tenant, by the state that was last read."""
        trust, mode = self._trusts[name], self._trusts[name].route.mode
        if mode is Mode.RECORD:
            return Assigned(served=Served.TEACHER, stage=rollout.Stage.OFF)
        if not self.fresh:
            note = "the rollout's state could not be read: the teacher answers"
            return Assigned(served=Served.TEACHER, stage=rollout.Stage.OFF, note=note)
        row = self._rows[name]
        state = row.rollout
        if row.calibration != trust.calibration:
            note = "another gateway serves this route with another calibration, rule or student: the teacher answers"
            return Assigned(served=Served.TEACHER, stage=rollout.Stage.OFF, note=note)
        if self._switch.killed or state.stage is rollout.Stage.KILLED:
            return Assigned(served=Served.TEACHER, stage=rollout.Stage.KILLED, entered_at=state.entered_at)
        if mode is Mode.SHADOW:
            return Assigned(served=Served.SHADOW, stage=rollout.Stage.SHADOW, entered_at=state.entered_at)
        if mode is Mode.STUDENT:
            return Assigned(served=Served.CASCADE, stage=rollout.Stage.LIVE, entered_at=state.entered_at)
        return self._cascade(trust, row, episode)

    def _cascade(self, trust: Trust, row: StageRow, episode: str) -> Assigned:
        state = row.rollout
        widening = widened(row, trust.policy.threshold)
        stage, served = rollout.Stage.LIVE, Served.CASCADE
        if trust.route.rollout:
            share = rollout.share_of(trust.plan, state)
            stage, served = state.serving, assign(episode, state.serving, share, trust.route.name)
        if served is Served.CASCADE and not widening.student_may_act:
            served = Served.SHADOW
        return Assigned(served=served, stage=stage, entered_at=state.entered_at, widening=widening)

    @property
    def fresh(self) -> bool:
        return abs(self._clock() - self._read_at) <= STALE_S

    def row(self, name: str) -> StageRow:
        """A route's row as it was last read, for pages and tests."""
        return self._rows.get(name, StageRow())

    def placed_by_mode(self, name: str) -> rollout.Stage | None:
        """The stage of a route that does not roll out; None where evidence or a kill says it."""
        trust = self._trusts[name]
        if trust.rolls_out or self.row(name).rollout.stage is rollout.Stage.KILLED:
            return None
        return _BY_MODE.get(trust.route.mode, rollout.Stage.OFF)

    def rolls_out(self, name: str) -> bool:
        """Whether evidence moves the route."""
        return self._trusts[name].rolls_out

    @property
    def switch(self) -> Switch:
        return self._switch

    # --- what was observed ------------------------------------------------------------------------------------------

    def shadowed(self, name: str, *, acted: bool, agreed: bool, calibration: str | None = None) -> None:
        """``calibration``: under which the student was asked; None: the one that is served."""
        entered_at = self.row(name).rollout.entered_at
        calibration = self._trusts[name].calibration if calibration is None else calibration
        self._events[name].append(Shadowed(acted=acted, agreed=agreed, calibration=calibration, entered_at=entered_at))

    def observed(self, name: str, event: Ended | Corrected) -> None:
        """An episode of ``name`` ended with a known outcome, or its outcome was corrected."""
        self._events[name].append(event)

    # --- the store --------------------------------------------------------------------------------------------------

    async def freshen(self) -> None:
        """Read again where the state is old. Requests that come meanwhile wait for the same attempt, at most
        ``PATIENCE_S``, and there is one a second: a store that hangs must not hold up what the teacher can answer."""
        loop = asyncio.get_running_loop()
        if self.fresh:
            return
        if (self._reading is None or self._reading.done()) and self._clock() >= self._again_at:
            self._again_at = self._clock() + POLL_S
            self._reading = loop.create_task(self.refresh(PATIENCE_S), name="potstill-stages-read")
        if self._reading is not None and not self._reading.done():
            await asyncio.shield(self._reading)

    async def aclose(self) -> None:
        """Write what was observed, if the store answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNHURRIED_S):
                await self.tick()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *told: Any) -> T:
        """In the one thread of its own: a store that hangs takes no other's."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *told)

    async def refresh(self, within_s: float = 1.0) -> bool:
        """Read switch and rows. False, with a count in ``failures``, if the store does not answer in time."""
        try:
            async with asyncio.timeout(within_s):
                switch, rows = await self._run(self._read)
        except (StoreError, OSError, TimeoutError, msgspec.MsgspecError):
            self.failures += 1
            return False
        except Exception:  # whatever a store's driver raises: an old state sends everything to the teacher
            log.exception("the rollout's state could not be read")
            self.failures += 1
            return False
        self._switch, self._rows, self._read_at = self._unwritten or switch, rows, self._clock()
        return True

    async def tick(self, now: float | None = None) -> bool:
        """Write what was observed, let the machine look, and read again. False if the store does not answer."""
        async with self._busy:
            at = self._clock() if now is None else now
            look = at - self._stepped_at >= STEP_S
            try:
                if self._unwritten is not None:
                    await self._written(self._unwritten)
                for name in self.staged:
                    if look or self._events[name]:
                        await self._run(self._flush, name, at)
            except (StoreError, OSError, msgspec.MsgspecError):
                self.failures += 1
                return False
            self._stepped_at = at if look else self._stepped_at
            return await self.refresh(within_s=UNHURRIED_S)

    async def adopt(self, trust: Trust) -> None:
        """Serve a route by another calibration, rule or student from now on: its rollout begins anew, as at a start.

        Raises what the store does, and nothing has changed then.
        """
        name = trust.route.name
        if name in self.staged:
            self._rows[name] = (await self._run(self._begun, trust))[1]
        self._trusts[name] = trust

    async def act(self, name: str, what: str, by: str = "") -> StageRow:
        """An operator's act on one route: one of ``ACTS``. Raises ``ConfigError`` where it is not possible now."""
        if name not in self.staged:
            raise UnknownName("route with a student", name, self.staged)
        if what not in ACTS:
            raise UnknownName("act", what, ACTS)
        if what in ROLLING_ONLY and not self._trusts[name].rolls_out:
            raise ConfigError(f"The route '{name}' does not roll out, so nothing can {what} it; kill and release can.")
        change = ACTS[what]

        def acted(row: StageRow) -> StageRow:
            now = self._clock()
            return acted_on(row, change(row.rollout, now), what, now, by)

        row = await self._run(self._change, name, acted)
        self._rows[name] = row
        return row

    async def kill_all(self, killed: bool = True, by: str = "") -> Switch:
        """Everything to the teacher, on all routes and in every process within ``POLL_S``; or end that.

        Killing counts here at once. Where the store does not take it in time it is written as soon as it does
        (``unwritten``). Ending it needs the store: raises ``StoreError``.
        """
        wanted = Switch(killed=killed, at=self._clock(), by=by)
        if killed:
            self._switch = self._unwritten = wanted
        try:
            async with asyncio.timeout(KILL_S):
                await self._written(wanted)
        except Exception as error:
            self.failures += 1
            if not killed:
                raise StoreError("The store did not take it, so the kill switch stays as it is; try again.") from error
            log.warning("the kill switch is on here, and not written: the store does not answer (%s)", error)
        return self._switch

    @property
    def unwritten(self) -> bool:
        """The switch is on here, and neither a restart nor other gateways know of it."""
        return self._unwritten is not None

    async def _written(self, switch: Switch) -> None:
        await self._run(self._throw, switch)
        self._switch, self._unwritten = switch, None

    def _read(self) -> tuple[Switch, dict[str, StageRow]]:
        found = self._store.get_state(*SWITCH)
        switch = Switch() if found is None else msgspec.convert(found[1], Switch)
        return switch, {name: self._own(name)[1] for name in self.staged}

    def _own(self, name: str) -> tuple[int, StageRow]:
        """Version and row of a route.

        The first time it is begun, and put under the calibration that is served here: of two processes with different
        ones the one that started later has it, and the other leaves the route to the teacher (``assigned``).
        """
        trust = self._trusts[name]
        if name in self._adopted and (found := self._store.get_state(KIND, name)) is not None:
            return found[0], _row_of(trust, found[1])
        return self._begun(trust)

    def _begun(self, trust: Trust) -> tuple[int, StageRow]:
        """Version and row of a route under a trust's calibration, as the store has them now."""
        name = trust.route.name
        while True:
            found = self._store.get_state(KIND, name)
            version, row = (0, None) if found is None else (found[0], _row_of(trust, found[1]))
            wanted = begun(row, trust.calibration, self._clock())
            if wanted is row:
                self._adopted.add(name)
                return version, wanted
            self._put(name, wanted, version)

    def _put(self, name: str, row: StageRow, version: int) -> bool:
        return self._store.put_state(KIND, name, plain(row), version)

    def _change(self, name: str, change: Callable[[StageRow], StageRow]) -> StageRow:
        for _ in range(_TRIES):
            version, row = self._own(name)
            changed = change(row)
            if changed == row or self._put(name, changed, version):
                return changed
        raise StoreError(f"The rollout of route '{name}' is changed by others all the time; try again.")

    def _flush(self, name: str, now: float) -> None:
        waiting = self._events[name]
        count = len(waiting)
        taken = [waiting[index] for index in range(count)]
        plan = self._trusts[name].plan
        rolled = self._trusts[name].rolls_out

        def changed(row: StageRow) -> StageRow:
            row = with_events(row, taken)
            return stepped(row, plan, now) if rolled else row

        self._change(name, changed)
        for _ in range(min(count, len(waiting))):
            waiting.popleft()

    def _throw(self, switch: Switch) -> Switch:
        for _ in range(_TRIES):
            found = self._store.get_state(*SWITCH)
            if self._store.put_state(*SWITCH, plain(switch), 0 if found is None else found[0]):
                return switch
        raise ConfigError("The kill switch is thrown by others all the time; try again.")
