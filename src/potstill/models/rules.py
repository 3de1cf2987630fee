"""Certified rules as a model: ``rules:FILE``, or ``rules:FILE#STUDENT`` with a student for what no rule answers.

Satisfies ``protocols.Model`` and ``CandidateScorer``. Where a rule answers, the action's probability is the bound that
held-out tasks certify, so that a cascade's threshold compares with a proven number, and all samples are the same. Where
none does the student is asked, its calls and likelihoods being its own; without one the request is refused, so that in
a cascade the teacher answers. Which layer answered is the model of the step's last call.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec

from potstill.errors import NOT_JSON, BadModelFile, ConfigError, ModelError
from potstill.models.rule_list import FORMAT, VERSION, RuleList, answer, rules_sha256
from potstill.protocols import CandidateScorer, Capabilities, Model
from potstill.types import Answerer, Call, Completion, Reply, Request, Usage

COUNTED_BY = "nothing-is-read-by-rules"
UNCERTIFIED = 0.5
"""The probability of an answer whose precision nobody certified."""


def read_rules(path: str | Path) -> RuleList:
    """The rules in a file. Raises ``ConfigError`` where there is none, ``BadModelFile`` where it holds no rules."""
    try:
        found = msgspec.json.decode(Path(path).expanduser().read_bytes(), type=RuleList)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the rules {path}: {error.strerror}. Type for example: rules:house.rules.json"
        ) from None
    except NOT_JSON as error:
        raise BadModelFile(f"{path} holds no rules: {error}.") from None
    if found.format != FORMAT or not 1 <= found.version <= VERSION:
        raise BadModelFile(
            f"{path} is '{found.format}' version {found.version}; this potstill reads '{FORMAT}' version 1 to "
            f"{VERSION}."
        )
    return found


def open_rules(path: str | Path, *, student: Model | None = None, uncertified: bool = False) -> RulesModel:
    """Rules whose certificate fits them. ``uncertified``: take rules that nothing certifies, too.

    Raises as ``read_rules``, and ``ConfigError`` for rules without a certificate or that were changed after it.
    """
    found = read_rules(path)
    if not uncertified:
        must_be_certified(found, path)
    return RulesModel(f"rules:{path}", found, student)


def must_be_certified(rules: RuleList, path: str | Path) -> None:
    """Raise ``ConfigError`` unless the rules are those that the certificate speaks of."""
    proof = rules.certificate
    fits = proof is not None and proof.rules_sha256 == rules_sha256(rules.rules)
    if not fits:
        why = "have no certificate" if proof is None else "were changed after they were certified"
        raise ConfigError(
            f"The rules in {path} {why}, so nothing says how often they are right. Type: "
            f"potstill distill rules --rules {path} --out certified.rules.json"
        )


class RulesModel:
    """Rules in memory, and who is asked where none answers."""

    def __init__(self, name: str, rules: RuleList, student: Model | None = None) -> None:
        self._name, self._rules, self._student = name, rules, student
        proof = rules.certificate
        self._precision = UNCERTIFIED if proof is None else min(max(proof.lower, 1e-6), 1 - 1e-6)

    @property
    def name(self) -> str:
        return self._name if self._student is None else f"{self._name}#{self._student.name}"

    @property
    def capabilities(self) -> Capabilities:
        if self._student is None:
            return Capabilities(n_shares_prompt=True, constrained=True, scores_candidates=True, actions_only=True)
        return self._student.capabilities

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """The rule's action ``n`` times, or the student's samples. Raises ``ModelError`` where nobody can answer."""
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}.")
        ruled = self._ruled(request, n)
        return ruled if ruled is not None else await self._asked(request).sample(request, n)

    async def score(self, request: Request) -> Completion:
        """The rule's action with its certified probability, what is left spread evenly; or the student's scores."""
        ruled = self._ruled(request, 1)
        if ruled is not None:
            return ruled
        student = self._asked(request)
        return await (student.score(request) if isinstance(student, CandidateScorer) else student.sample(request, 1))

    async def aclose(self) -> None:
        if self._student is not None:
            await self._student.aclose()

    def _asked(self, request: Request) -> Model:
        if self._student is None:
            raise ModelError(
                f"No rule of {self._name} answers here, and no student stands behind them. Take them in a cascade, or "
                f"type for example: {self._name}#policy:student.policy"
            )
        return self._student

    def _ruled(self, request: Request, n: int) -> Completion | None:
        if request.tools or not request.admissible or request.situation is None:
            return None
        started, began, cpu = time.time(), time.perf_counter(), time.thread_time()
        actions = tuple(dict.fromkeys(request.admissible))
        found = answer(self._rules.rules, request.situation, actions)
        if found is None:
            return None
        candidates = self._candidates(found.action, actions)
        first = Reply(text=found.action, logprob=candidates[0][1], candidates=candidates)
        replies = (first, *[msgspec.structs.replace(first, candidates=())] * (n - 1))
        call = Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            replies=replies,
            usage=Usage(estimated=True, counted_by=COUNTED_BY),
            temperature=request.temperature,
            started_at=started,
            latency_s=time.perf_counter() - began,
            cpu_s=time.thread_time() - cpu,
        )
        return Completion(replies=replies, calls=(call,))

    def _candidates(self, action: str, actions: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
        others = [other for other in actions if other != action]
        if not others:
            return ((action, 0.0),)
        rest = math.log((1.0 - self._precision) / len(others))
        return ((action, math.log(self._precision)), *((other, rest) for other in others))
