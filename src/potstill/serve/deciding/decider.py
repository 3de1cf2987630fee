"""Who answers a request: the teacher, or the student where the route, its stage and its votes say so.

What it knows: the order of the questions (may the student be asked, how is this episode served, what would a switch
cost, do the samples agree) and that every failure on the way is the teacher's turn. What it does not do: decide by
itself (``decide.decide_step``), send to upstreams (``seams.Ask``), keep stages (``rollout.stages``), execute tools.

    decider = GatewayDecider(settings, ask, store, library, record=recorder.add)
    await decider.start()
    decided = await decider.decide(route, prompt, placement, admission)   # answer None: forward to the teacher
    decider.finished(route, prompt, exchange)                             # shadow, caches; never waits
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from potstill.decide import CascadeState, Policy, PolicyKind
from potstill.decide.assignment import Route as Served
from potstill.errors import StoreError
from potstill.record.fold import ENVIRONMENT
from potstill.record.parsing import Situation, parse
from potstill.serve.deciding.asking import Weighed
from potstill.serve.deciding.beginnings import Began, Beginnings
from potstill.serve.deciding.books import Books, load
from potstill.serve.deciding.context import Injector, Where
from potstill.serve.deciding.costs import Costs
from potstill.serve.deciding.episodes_held import KEPT, Held, HeldEpisodes, KeptStates, digest_of, key_of, served_now
from potstill.serve.deciding.reloading import Reloading
from potstill.serve.deciding.shadowing import Shadowing
from potstill.serve.deciding.showing import Showed, Showing, nothing
from potstill.serve.deciding.student import answer_of, not_for_student
from potstill.serve.deciding.students import Students
from potstill.serve.rollout.stages import POLL_S, Assigned, Stages, StateStore
from potstill.serve.rollout.trust import Trust, trust_of
from potstill.serve.seams import Admission, Ask, Decided, Placement
from potstill.serve.settings import Gateway, Route
from potstill.trajectories.exchange import Exchange
from potstill.types import Answerer, EscalationMode
from potstill.wire.neutral import Prompt

if TYPE_CHECKING:
    from potstill.distill.context.library import DemonstrationLibrary
    from potstill.measure.prices.table import PriceTable
    from potstill.trajectories.store import Store

log = logging.getLogger(__name__)

NOT_ASKED = ("stage", "state", "request", "failed")
"""Why the student was not asked: by its stage, because that could not be read, by what is asked, by a failure here."""


class GatewayDecider:
    """``seams.Decider`` over one event loop. Raises ``ConfigError`` for routes that cannot be served.

    ``record`` takes a shadowed exchange as one more record of its episode: no client's bytes, calls with
    ``shadow=True``, and in ``metadata`` ``shadow_of`` (the request), ``acted`` and ``agreed``. ``prices`` None: costs
    are not known and change nothing. ``books``: the store with the tenants' playbooks. ``warnings`` are for the
    operator, at start. ``failed`` is told what the teacher made up for, ``may_spend`` tells whether a tenant's key has
    budget left for shadow work, ``began`` how an episode that this process has not seen began.
    """

    def __init__(
        self,
        settings: Gateway,
        ask: Ask,
        state_store: StateStore,
        library: DemonstrationLibrary | None = None,
        *,
        books: Store | None = None,
        record: Callable[[Exchange], None] | None = None,
        prices: PriceTable | None = None,
        clock: Callable[[], float] = time.time,
        environment: str = ENVIRONMENT,
        failed: Callable[[str], None] = lambda what: None,
        may_spend: Callable[[str, str | None], bool] = lambda tenant, key_id: True,
        began: Began | None = None,
    ) -> None:
        self._failed = failed
        self._students = Students(settings, ask)
        self.policies = self._students.policies
        self.trusts = {route.name: trust_of(route, settings, self._sha256(route)) for route in settings.routes}
        self.warnings = tuple(text for trust in self.trusts.values() for text in trust.warnings)
        self.stages = Stages(self.trusts, state_store, clock)
        self.costs = Costs(prices, {one.name: one.n_shares_prompt for one in settings.upstreams})
        self.decided: Counter[tuple[str, str, str]] = Counter()
        """Requests by route, who acts, and why: a ``Reason``, or one of ``NOT_ASKED``."""
        self.asked: Counter[tuple[str, str]] = Counter()
        """Steps at which the student was asked, by route and who acted."""
        self._clock = clock
        self._drain_s = settings.limits.drain_s
        self._showing = Showing(Injector(library, environment), Books(books, environment))
        self.shadowing = Shadowing(
            self.trusts,
            self._students,
            self._showing,
            self.stages,
            record=record,
            may_spend=may_spend,
            clock=clock,
        )
        self._held = HeldEpisodes(idle_s=settings.limits.idle_episode_s, clock=clock)
        self.kept = KeptStates(state_store, clock)
        self.beginnings = Beginnings(began)
        self.reloading = Reloading(settings, self.policies, self.serve)
        self._watch: asyncio.Task[None] | None = None

    def _sha256(self, route: Route) -> str | None:
        served = self.policies.served(route.student)
        return None if served is None else served.sha256

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the stages, and look at them every second from now on. Nothing fails if the store is away."""
        if any(trust.student is not None and trust.route.playbook.name for trust in self.trusts.values()):
            await asyncio.to_thread(load)
        await self.stages.refresh()
        if self.stages.switch.killed:
            log.warning("the kill switch is on: teachers answer everything until it is released")
        self._watch = asyncio.get_running_loop().create_task(self._look(), name="potstill-stages")
        self.reloading.start()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.stages.tick()
            except Exception:  # the teacher answers as soon as the state is too old: see ``Stages.fresh``
                log.exception("the rollout's state could not be kept")

    async def aclose(self) -> None:
        """Let shadow work end within the drain time, and write what was observed."""
        await self.reloading.aclose()
        await self.shadowing.queue.aclose(self._drain_s)
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        self.beginnings.close()
        await self._students.aclose()
        await self.kept.aclose()
        await self.stages.aclose()

    async def serve(self, trust: Trust) -> bool:
        """Serve a route by another student or calibration from now on; False where it is the same. Requests that began
        before go on as they began. Raises what the store does, and nothing has changed then."""
        name = trust.route.name
        if trust.calibration == self.trusts[name].calibration:
            return False
        await self.stages.adopt(trust)
        self.trusts[name] = trust
        return True

    # --- a request ----------------------------------------------------------------------------------------------------

    async def decide(
        self,
        route: Route,
        prompt: Prompt,
        placement: Placement,
        admission: Admission,
        said: Mapping[str, Any] | None = None,
    ) -> Decided:
        """Who answers. Never raises but for cancellation: what goes wrong is a note, and the teacher's turn."""
        trust = self.trusts.get(route.name)
        if trust is None or trust.student is None:
            return Decided(stage="off/teacher")
        key = key_of(admission.tenant, placement.episode_id)
        stage = ""
        try:
            await self.stages.freshen()
            now = self.stages.assigned(route.name, key)
            try:
                held = await self._episode(route.name, key, now, admission.tenant, placement, prompt)
            except (StoreError, OSError, TimeoutError) as problem:
                self._failed("state")
                note = f"how the episode began could not be read ({type(problem).__name__}): the teacher answers"
                return self._alone(route, "state", f"{now.stage}/{Served.TEACHER}", note)
            served = served_now(held.begun, now)
            stage = f"{now.stage}/{served}"
            if now.note:
                self._failed("stages")
                return self._alone(route, "state", stage, now.note)
            if served is not Served.CASCADE:
                return self._alone(route, "stage", stage)
            why = not_for_student(prompt)
            if why is not None:
                return self._alone(route, "request", stage, f"the teacher alone: {why}")
            where = Where(namespace=admission.tenant, episode_id=placement.episode_id, said=said or {})
            decided = await self._cascade(trust, key, held, now, prompt, where)
            assert decided.decision is not None
            self.decided[route.name, decided.decision.answerer.value, decided.decision.reason.value] += 1
            return msgspec.structs.replace(decided, stage=stage)
        except Exception as problem:  # fail open, whatever it is: an agent is never worse off for the gateway
            log.exception("deciding on route %s failed", route.name)
            self._failed("decision")
            return self._alone(route, "failed", stage, f"the teacher alone: {type(problem).__name__}: {problem}")

    def _alone(self, route: Route, why: str, stage: str, note: str = "") -> Decided:
        """The student is not asked: for one of ``NOT_ASKED``."""
        self.decided[route.name, Answerer.TEACHER.value, why] += 1
        return Decided(stage=stage, notes=(note,) if note else ())

    async def _episode(
        self, route: str, key: str, now: Assigned, tenant: str, placement: Placement, prompt: Prompt
    ) -> Held:
        """What is held of the episode; of one that is new here, how it is served. Raises what the store does."""
        held = self._held.get(key)
        if held is None:
            begun = await self.beginnings.of(tenant, placement, prompt, now)
            held = self._held.get(key)  # another request of it came meanwhile, perhaps
        return held or self._held.put(key, Held(route, begun, CascadeState(), CascadeState()))

    async def _state(self, trust: Trust, key: str, held: Held, prompt: Prompt, situation: Situation) -> str:
        """Bring ``held.before`` to the state that this request meets; the note says what could not be read.

        The number of the step is in the messages. Who holds the task is not: where this process has not seen the
        step before (it was restarted, or another one served it), the row says.
        """
        missed = situation.step_index > (held.last_step + 1 if held.asked else 0)
        digest, note = digest_of(prompt), ""
        if digest == held.asked:
            return note
        if missed and trust.policy.mode in KEPT:
            note = await self.kept.restored(key, held)
        step = max(held.state.step, situation.step_index)
        held.before = msgspec.structs.replace(held.state, step=step)
        held.asked, held.last_step = digest, situation.step_index
        return note

    async def _cascade(
        self, trust: Trust, key: str, held: Held, now: Assigned, prompt: Prompt, where: Where
    ) -> Decided:
        situation = parse(prompt)
        unread = await self._state(trust, key, held, prompt, situation)
        state, staying = self._staying(trust, held, prompt)
        policy = _widened(trust.policy, now)
        shown = nothing(prompt)
        if _asks(policy, state):
            shown = await self._showing.show(prompt, trust.route, situation, where)
        weighed = await self._students.weigh(
            trust, policy, state, prompt, situation, asked=shown.prompt, said=where.said
        )
        self._after(trust, key, held, weighed)
        self._count(trust, unread, shown, weighed)
        notes = tuple(filter(None, (unread, *shown.notes, staying, *weighed.notes)))
        decision, calls = weighed.resolution.decision, weighed.calls
        told = shown.fields(one.reply for one in weighed.samples) if weighed.calls else {}
        decided = Decided(decision=decision, calls=calls, notes=notes, **told)
        if weighed.sample is not None:
            return msgspec.structs.replace(decided, answer=answer_of(weighed.sample))
        return self._to_teacher(trust, held, prompt, situation, decided)

    def _count(self, trust: Trust, unread: str, shown: Showed, weighed: Weighed) -> None:
        if weighed.calls:
            self.asked[trust.route.name, weighed.resolution.decision.answerer.value] += 1
        for what, failed in (("state", unread), *shown.failed, ("student", weighed.notes)):
            if failed:
                self._failed(what)

    def _staying(self, trust: Trust, held: Held, prompt: Prompt) -> tuple[CascadeState, str]:
        """The state with which the step is decided. Where the teacher's warm cache makes it the cheaper one, it keeps
        the step: the student never acts more often than the calibration allows."""
        state = held.before
        if trust.policy.kind is not PolicyKind.CASCADE or Answerer.TEACHER not in held.warmth or state.teacher_left:
            return state, ""
        price = self.costs.switch(trust, held, prompt, self._clock())
        if price is None or not price.stay:
            return state, ""
        return msgspec.structs.replace(state, teacher_left=1), f"the teacher keeps the step: {price.sentence()}"

    def _after(self, trust: Trust, key: str, held: Held, weighed: Weighed) -> None:
        before, held.state = held.state, weighed.resolution.state
        if weighed.calls:
            self.costs.decided(trust, weighed.resolution.decision.answerer)
        changed = (before.holder, before.teacher_left) != (held.state.holder, held.state.teacher_left)
        if changed and trust.policy.mode in KEPT:
            self.kept.keep(key, held)

    def _to_teacher(self, trust: Trust, held: Held, prompt: Prompt, situation: Situation, decided: Decided) -> Decided:
        held.compacted = False
        if trust.policy.kind is not PolicyKind.CASCADE or trust.policy.mode is not EscalationMode.COMPACT:
            return decided
        compact, note = self.costs.hand_off(trust, held, prompt, situation, self._clock())
        held.compacted = compact is not None
        return msgspec.structs.replace(decided, prompt=compact, notes=(*decided.notes, note) if note else decided.notes)

    # --- after the answer ---------------------------------------------------------------------------------------------

    def finished(self, route: Route, prompt: Prompt, exchange: Exchange) -> None:
        """The client has its answer. Never waits, never raises."""
        trust = self.trusts.get(route.name)
        if trust is None or trust.student is None:
            return
        try:
            key = key_of(exchange.namespace, exchange.episode_id)
            self.costs.finished(trust, self._held.get(key), prompt, exchange)
            self.shadowing.after(route, key, prompt, exchange)
        except Exception:  # nobody waits for this any more
            log.exception("what follows an exchange on route %s failed", route.name)


def _widened(policy: Policy, now: Assigned) -> Policy:
    """As strict as the drift monitor wants it."""
    if now.widening is None or now.widening.threshold <= policy.threshold:
        return policy
    return msgspec.structs.replace(policy, threshold=now.widening.threshold)


def _asks(policy: Policy, state: CascadeState) -> bool:
    """Whether the student will be asked: where the teacher keeps the step, nothing needs to be retrieved."""
    if policy.kind is not PolicyKind.CASCADE:
        return True
    return state.holder is not Answerer.TEACHER and state.teacher_left == 0
