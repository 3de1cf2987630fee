"""The students of all routes, wherever they run: behind an upstream, or as a policy or tuned model of this process.

What it knows: who is asked for a route's student. What it does not do: decide when it is asked (``decider``,
``shadowing``), draw samples and judge them (``asking``), open new versions of a policy (``reloading``).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from potstill.decide import CascadeState, Policy
from potstill.record.parsing import Situation, tried
from potstill.serve.deciding.asking import Student, Weighed, weigh
from potstill.serve.deciding.policies import Policies, PolicyAsk
from potstill.serve.deciding.tuned import TunedAsk, tuned_students
from potstill.serve.deciding.validity import ValidAnswers
from potstill.serve.rollout.trust import Trust
from potstill.serve.seams import Ask
from potstill.serve.settings import Gateway
from potstill.types import Reply
from potstill.wire.neutral import Prompt

NOTHING_SAID: Mapping[str, Any] = {}


class Students:
    """``ask``: sends to upstreams. Raises as ``Policies`` and ``tuned_students`` for files that cannot be opened."""

    def __init__(self, settings: Gateway, ask: Ask) -> None:
        self.policies = Policies(settings)
        self._tuned = tuned_students(settings)
        self._ask = ask
        self._dialects = {upstream.name: upstream.dialect for upstream in settings.upstreams}

    async def aclose(self) -> None:
        for student in self._tuned.values():
            await student.aclose()

    async def weigh(
        self,
        trust: Trust,
        policy: Policy,
        state: CascadeState,
        prompt: Prompt,
        situation: Situation,
        *,
        asked: Prompt,
        teacher: Reply | None = None,
        said: Mapping[str, Any] = NOTHING_SAID,
    ) -> Weighed:
        """Decide one step by what the route's student says to ``asked``: ``prompt`` with what it is shown beside it.

        ``teacher``: its answer where it is known already (shadow). Never raises but ``CutShort``.
        """
        rule = ValidAnswers(policy.rule, prompt)
        assert trust.student is not None
        student = Student(
            ask=self._of(trust, prompt, said),
            model=trust.student,
            dialect=self._dialects.get(trust.student.upstream, ""),
            deadline_s=trust.route.cascade.deadline_s,
            shadow=teacher is not None,
        )
        return await weigh(student, asked, rule, policy, state, tried=_tried(situation, rule), teacher=teacher)

    def _of(self, trust: Trust, prompt: Prompt, said: Mapping[str, Any]) -> Ask:
        tuned = self._tuned.get(trust.route.student or "")
        if tuned is not None:
            return TunedAsk(tuned, trust.route.actions, prompt, said)
        policy = self.policies.of(trust)
        if policy is None or trust.route.actions is None:
            return self._ask
        return PolicyAsk(policy, trust.route.actions, prompt, said)


def _tried(situation: Situation, rule: ValidAnswers) -> set[Hashable]:
    """Keys of the actions that were taken after what is seen now: trusting one of them again would be a loop."""
    replies = (Reply(text=action.text, tool_calls=action.tool_calls) for action in tried(situation))
    return {key for reply in replies if (key := rule.key(reply, None)) is not None}
