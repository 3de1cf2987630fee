"""New versions of policies taken up while the gateway runs: after ``distill retrain`` or ``rollback``.

What it knows: when a file that a route is served by is another one (a new calibration too), and that what cannot be
served changes nothing. What it does not do: open policies (``policies``), say what may be served (``rollout.trust``),
begin rollouts (``rollout.stages``). Files are read in a thread; no request waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from potstill.errors import ConfigError, PotstillError, StoreError
from potstill.serve.deciding.policies import Opened, Policies, opened
from potstill.serve.rollout.trust import Trust, trust_of
from potstill.serve.seams import Loaded
from potstill.serve.settings import Gateway, Mode, Route

LOOK_S = 1.0
"""How often files are looked at."""

log = logging.getLogger("potstill.gateway")

Serve = Callable[[Trust], Awaitable[bool]]
"""Serves a route by another trust; False where it is the one that is served. Raises what the store does."""
_Signature = tuple[tuple[int, int, int] | None, ...]


class _New(NamedTuple):
    policy: Opened
    trusts: list[Trust]


class Reloading:
    """For one event loop. ``counts``: by model and ``loaded``, ``refused`` or ``store-away``."""

    def __init__(
        self, settings: Gateway, policies: Policies, serve: Serve, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._policies, self._serve, self._clock = settings, policies, serve, clock
        self._seen: dict[str, _Signature] = {}
        self.loaded = {name: self._loaded(name) for name in policies.files}
        self.counts: Counter[tuple[str, str]] = Counter()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._policies.files:
            self._task = asyncio.get_running_loop().create_task(self._watch(), name="potstill-policies")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for name in self._policies.files:
                try:
                    await self.look(name)
                except Exception:  # what is served goes on
                    log.exception("looking for a new version of the policy '%s' failed", name)

    async def look(self, name: str) -> bool:
        """Serve what is in the files now, where it is another policy or calibration that can be served. True if so."""
        signature = await asyncio.to_thread(self._signature, name)
        if signature == self._seen.get(name):
            return False
        try:
            found = await asyncio.to_thread(self._new, name)
        except (PotstillError, OSError) as problem:
            self._told(name, "refused", str(problem))
            self._seen[name] = signature
            return False
        changed = await self._put(name, found)
        if changed is not None:
            self._seen[name] = signature
        return bool(changed)

    async def _put(self, name: str, found: _New) -> list[Trust] | None:
        """The routes that are served otherwise from now on; None where the store did not take it: then once more."""
        self._policies.add(found.policy)
        try:
            changed = [trust for trust in found.trusts if await self._serve(trust)]
        except (StoreError, OSError, TimeoutError, msgspec.MsgspecError) as problem:
            self._told(name, "store-away", f"the store did not take it ({problem}); it is tried again")
            return None
        before = self.loaded[name]
        self._policies.put(name, found.policy)
        self.loaded[name] = self._loaded(name) if changed else msgspec.structs.replace(before, problem="")
        if changed:
            self.counts[name, "loaded"] += 1
            self._tell_loaded(name, before.version, changed)
        return changed

    def _tell_loaded(self, name: str, before: str, changed: list[Trust]) -> None:
        now = self.loaded[name]
        routes = ", ".join(f"'{trust.route.name}'" for trust in changed)
        rolls = " Its rollout begins in shadow again." if any(trust.rolls_out for trust in changed) else ""
        what = "the calibration" if now.version == before else f"version {before[:16]}"
        log.warning("%s: version %s is served on %s in place of %s.%s", now.file, now.version[:16], routes, what, rolls)
        for warning in (text for trust in changed for text in trust.warnings):
            log.warning("%s", warning)

    def _told(self, name: str, what: str, problem: str) -> None:
        """Once for each problem: the file is looked at every second."""
        self.counts[name, what] += 1
        if self.loaded[name].problem != problem:
            log.warning(
                "%s is not taken up, and version %s is served as before: %s",
                *(self.loaded[name].file, self.loaded[name].version[:16], problem),
            )
        self.loaded[name] = msgspec.structs.replace(self.loaded[name], problem=problem)

    # --- files --------------------------------------------------------------------------------------------------------

    def _routes(self, name: str) -> list[Route]:
        return [route for route in self._settings.routes if route.student == name]

    def _new(self, name: str) -> _New:
        """What is in the files, looked at as at a start. Blocks."""
        policy = opened(self._policies.files[name])
        return _New(policy, [trust_of(route, self._settings, policy.sha256) for route in self._routes(name)])

    def _signature(self, name: str) -> _Signature:
        """Changes whenever a file is written or replaced. Blocks."""
        calibrations = [
            route.cascade.calibration
            for route in self._routes(name)
            if route.mode is Mode.CASCADE and route.cascade.calibration
        ]
        return tuple(map(_stat, (self._policies.files[name], *calibrations)))

    def _loaded(self, name: str) -> Loaded:
        served = self._policies.served(name)
        if served is None:
            raise ConfigError(f"No policy is served under the name '{name}'.")
        return Loaded(file=self._policies.files[name], version=served.model.version, loaded_at=self._clock())


def _stat(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(Path(file).expanduser())
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
