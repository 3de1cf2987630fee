"""What the student would have done: asked beside the teacher, once the client has its answer.

What it knows: which exchanges are drawn, that the tenant's budget pays, how the student is asked, what is counted and
recorded. What it does not do: wait in line (``shadow.ShadowQueue``), say how an episode is served (``rollout.stages``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from potstill.decide import CascadeState, PolicyKind
from potstill.decide.assignment import Route as Served
from potstill.decide.assignment import drawn
from potstill.record.parsing import parse
from potstill.serve.deciding.context import Where
from potstill.serve.deciding.shadow import Compared, Job, ShadowQueue, compare, teachers_reply
from potstill.serve.deciding.showing import Showed, Showing
from potstill.serve.deciding.student import not_for_student
from potstill.serve.deciding.students import Students
from potstill.serve.deciding.validity import ValidAnswers
from potstill.serve.rollout.stages import Stages
from potstill.serve.rollout.trust import Trust
from potstill.serve.seams import CutShort
from potstill.serve.settings import Route
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Decision, EscalationMode, Reply
from potstill.wire.neutral import Prompt


class Shadowing:
    """``trusts`` is looked up anew for each exchange. ``record`` None: nothing is recorded. ``may_spend`` as in
    ``GatewayDecider``."""

    def __init__(
        self,
        trusts: Mapping[str, Trust],
        students: Students,
        showing: Showing,
        stages: Stages,
        *,
        record: Callable[[Exchange], None] | None,
        may_spend: Callable[[str, str | None], bool],
        clock: Callable[[], float],
    ) -> None:
        self._trusts, self._students, self._showing, self._stages = trusts, students, showing, stages
        self._record, self._may_spend, self._clock = record, may_spend, clock
        self.queue = ShadowQueue(self._beside)
        self.seen: Counter[tuple[str, str, str]] = Counter()
        """Shadowed steps by route, ``acted`` or ``abstained``, ``agreed`` or ``differed``."""

    def after(self, route: Route, key: str, prompt: Prompt, exchange: Exchange) -> None:
        """Draw the exchange of the episode ``key``, or leave it. Never waits."""
        if not exchange.stage.endswith(f"/{Served.SHADOW}") or not_for_student(prompt) is not None:
            return
        unit = f"{key}/{exchange.request_id}/{exchange.started_at!r}"
        if drawn(unit, route.shadow_share, route.name, "shadow-exchange") and self._has_budget(exchange):
            self.queue.offer(Job(route.name, prompt, exchange))

    def _has_budget(self, exchange: Exchange) -> bool:
        """Shadow work is paid out of the tenant's budgets, and ends with them."""
        if self._may_spend(exchange.namespace, exchange.key_id):
            return True
        self.queue.counts["no-budget"] += 1
        return False

    async def _beside(self, job: Job) -> None:
        """Ask the student what the teacher was asked, and compare."""
        name, prompt, exchange = job
        trust = self._trusts[name]
        teacher = await asyncio.to_thread(teachers_reply, exchange)  # a long stream takes long to parse
        if teacher is None or not self._has_budget(exchange):
            return
        situation = parse(prompt)
        where = Where(namespace=exchange.namespace, episode_id=exchange.episode_id, said=exchange.metadata)
        shown = await self._showing.show(prompt, trust.route, situation, where)
        policy = msgspec.structs.replace(trust.policy, kind=PolicyKind.CASCADE, mode=EscalationMode.STEP)
        started = self._clock()
        state = CascadeState(step=situation.step_index)
        try:
            weighed = await self._students.weigh(
                trust, policy, state, prompt, situation, asked=shown.prompt, teacher=teacher, said=where.said
            )
        except CutShort as cut:  # the gateway stops; what was asked may be billed all the same
            self._keep(exchange, started, shown, (), calls=cut.calls, notes=("shadow: cut off",))
            raise
        found = compare(teacher, weighed.samples, weighed.resolution.decision, ValidAnswers(policy.rule, prompt))
        if found is not None:
            self._stages.shadowed(name, acted=found.acted, agreed=found.agreed, calibration=trust.calibration)
            self.seen[name, *_named(found)] += 1
        decision, said = weighed.resolution.decision, [one.reply for one in weighed.samples]
        calls, notes = weighed.calls, weighed.notes
        self._keep(exchange, started, shown, said, calls=calls, notes=notes, decision=decision, found=found)

    def _keep(
        self,
        exchange: Exchange,
        started: float,
        shown: Showed,
        said: Iterable[Reply],
        *,
        calls: tuple[Upstream, ...],
        notes: tuple[str, ...],
        decision: Decision | None = None,
        found: Compared | None = None,
    ) -> None:
        """Record what the student did beside an exchange, and what it cost."""
        if self._record is None:
            return
        told: dict[str, Any] = {"shadow_of": exchange.request_id}
        if found is not None:
            told |= {"acted": found.acted, "agreed": found.agreed}
        self._record(
            Exchange(
                namespace=exchange.namespace,
                episode_id=exchange.episode_id,
                route=exchange.route,
                dialect=exchange.dialect,
                started_at=started,
                latency_s=max(0.0, self._clock() - started),
                answerer=exchange.answerer,
                decision=decision,
                calls=calls,
                stage=exchange.stage,
                notes=(*shown.notes, *notes),
                key_id=exchange.key_id,
                metadata=told,
                **shown.fields(said),
            )
        )


def _named(found: Compared) -> tuple[str, str]:
    return "acted" if found.acted else "abstained", "agreed" if found.agreed else "differed"
