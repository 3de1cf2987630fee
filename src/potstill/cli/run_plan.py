"""From options to a plan: which episodes to record, with what, at which prices. Nothing is opened or spent here."""

from __future__ import annotations

import datetime
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from potstill.cli.calibrated import calibrated, refuse_arms
from potstill.cli.output import note
from potstill.cli.playbook_wiring import playbook_config
from potstill.cli.tuned_plan import refuse_context, tuned_agent
from potstill.decide import agreement_rule
from potstill.decide.policy import Policy, PolicyKind, Sampling, Signal
from potstill.decide.sampling import TokenPrice, sampling_cost
from potstill.distill.context.config import ContextConfig, Mode, Style
from potstill.envs.registry import describe, open_source
from potstill.errors import ConfigError, UnknownName, one_of
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.models.providers import shares_prompt
from potstill.models.tuned_file import SCHEME, tuned_of
from potstill.run.arms import Agent, Placement, Reasoning, build_arms, digest
from potstill.run.estimate import Assumptions
from potstill.run.runner import RunConfig, choose_tasks
from potstill.trajectories import Store
from potstill.trajectories.opening import read_store, shown
from potstill.types import EscalationMode, Task

CONSTRAINED = ("local:", "torch:", SCHEME)
"""Models that are held to the admissible actions, so that the prompt need not list them."""
UNTHINKING = ("expert", "policy:", "rules:", SCHEME)
"""Teachers that are not prompted: an expert, a policy, rules, and a tuned student, which writes as it was taught to."""
LIKELIHOOD_THRESHOLD = 0.7
"""Default of ``--threshold`` for ``--signal likelihood``: on 40 expert states of ALFWorld train games SmolLM2-135M
was right in all 17 in which it was so sure (docs/log.md)."""

LEARNING = "learning"
"""Under which a run's configuration holds what makes it a learning run (``playbook_learning``)."""

LABELLING = "dagger"
"""Under which a run's configuration holds what makes it a student's episodes with labels (``training.dagger``)."""


class Plan(NamedTuple):
    """A run that is ready to be played."""

    config: RunConfig
    tasks: list[Task]
    context: ContextConfig
    prices: PriceTable
    pricing: Pricing
    db: str
    """A file, or the URL of a database."""
    jobs: int = 1
    resumed: bool = False
    """The run is in the store already, and its budget may have been changed since."""

    @property
    def place(self) -> str:
        """The store as it is printed and typed: without a password."""
        return shlex.quote(shown(self.db))


def planned(run_id: str | None, options: dict[str, Any], arms: str) -> Plan:
    """A plan from the command line's options. Raises ``ConfigError`` before anything is opened."""
    if not options.get("environment"):
        raise ConfigError("No environment was named. Type for example: --env minigrid")
    environment_options = _environment_options(options)
    student_options = pairs(options.get("student_options"), "--student-option template=plain")
    world = describe(options["environment"], **environment_options)
    options = calibrated(options)
    source = open_source(options["environment"], **environment_options)
    split = options.get("split") or _default_split(source.splits())
    tasks = choose_tasks(source.tasks(split), options.get("n"), options["seed"])
    policy = _policy(options, world.rule)
    student = tuned_agent(_agent(options, options.get("student")), options)
    named = [name.strip() for name in arms.split(",") if name.strip()]
    built = build_arms(named, policy, student, _teacher_agent(options))
    refuse_arms(options, built)
    config = RunConfig(
        run_id="",
        environment=options["environment"],
        environment_options=environment_options,
        split=split,
        arms=tuple(built),
        n=len(tasks),
        seed=options["seed"],
        seeds=options["seeds"],
        max_steps=options.get("max_steps") or world.max_steps,
        instructions=world.instructions,
        teacher=options.get("teacher"),
        student=options.get("student"),
        student_options=student_options,
        teacher_options=pairs(options.get("teacher_options"), "--teacher-option idle_s=600"),
        price_teacher_as=options.get("price_teacher_as"),
        price_student_as=options.get("price_student_as"),
        prices_date=str(PriceTable.load().date),
        namespace=options["namespace"],
        context=msgspec.to_builtins(_context(options)),
        playbook=options.get("playbook"),
        playbook_config=playbook_config(options) if options.get("playbook") is not None else {},
        demonstrations_split=options["demonstrations_split"],
        max_cost_usd=_budget(options),
        escalation_share=options.get("escalation_share"),
    )
    _check(config)
    return finished(msgspec.structs.replace(config, run_id=run_id or _name(config)), tasks, options)


def _check(config: RunConfig) -> None:
    """What no single option can know."""
    if any(arm.needs_demonstrations for arm in config.arms) and config.split == config.demonstrations_split:
        raise ConfigError(
            f"--demos-split is '{config.split}', the split that is tested: a student would be shown its own exam. "
            "Name another split with --split or --demos-split."
        )
    _check_playbook(config)
    refuse_context(config)
    for arm in config.arms:
        weighs = arm.policy.signal is Signal.LIKELIHOOD and arm.policy.kind is PolicyKind.CASCADE
        reasons = arm.student_agent.reasoning is Reasoning.WITH_ACTION
        if weighs and reasons and tuned_of(config.student) is None:
            raise ConfigError(
                "--signal likelihood weighs actions and nothing else, so reasoning cannot be written in the same "
                "answer. Type: --reasoning separate or --reasoning none"
            )


def _check_playbook(config: RunConfig) -> None:
    showing = [arm.name for arm in config.arms if arm.playbook]
    if showing and config.playbook is None:
        raise ConfigError(f"The arm '{showing[0]}' shows a playbook, and none was named. Type: --playbook NAME")
    if config.playbook is not None and not showing:
        raise ConfigError("--playbook was given, and no arm shows it. Type for example: --arm zero-shot,playbook")


RESUME_TAKES = frozenset({"db", "namespace", "jobs", "max_cost_usd", "directory", "cpu_hour_usd"})
"""Options that do not change what a run records: these may be given with ``--resume``."""


def resumed(name: str, options: dict[str, Any], given: Mapping[str, str]) -> Plan:
    """The plan of a recorded run. Its settings come from the store.

    ``given``: the options that were typed, as parameter and flag; those that would change the run are refused.
    """
    changed = [flag for parameter, flag in given.items() if parameter not in RESUME_TAKES]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)} cannot be given with --resume: a resumed run keeps its settings. Leave it away, or "
            "start a new run without --resume."
        )
    with read_store(options["db"]) as store:
        config = _stored(store, name, options["namespace"])
    if options.get("max_cost_usd") is not None:
        config = msgspec.structs.replace(config, max_cost_usd=_budget(options))
    environment_options: dict[str, Any] = dict(config.environment_options)
    if options.get("directory"):
        environment_options["directory"] = options["directory"]
    source = open_source(config.environment, **environment_options)
    tasks = choose_tasks(source.tasks(config.split), config.n, config.seed)
    return finished(config, tasks, options)._replace(resumed=True)


def _stored(store: Store, name: str, namespace: str) -> RunConfig:
    """A run of this namespace by name, or the last one."""
    runs = store.runs(namespace=namespace)
    if any(row.run_id == name and LEARNING in row.config for row in runs):
        raise ConfigError(f"{name} is a learning run. Type: potstill distill playbook --resume {shlex.quote(name)}")
    if any(row.run_id == name and LABELLING in row.config for row in runs):
        raise ConfigError(f"{name} is of a student in training. Type its potstill distill weights again, with --resume")
    runs = [row for row in runs if LEARNING not in row.config and LABELLING not in row.config]
    if not runs:
        raise ConfigError(f"{store.path} holds no run to resume. Type: potstill run --env minigrid ...")
    chosen = runs[-1:] if name == "last" else [row for row in runs if row.run_id == name]
    if not chosen:
        raise UnknownName("run", name, [row.run_id for row in runs])
    return msgspec.convert(chosen[0].config, RunConfig)


def finished(config: RunConfig, tasks: list[Task], options: dict[str, Any]) -> Plan:
    """A plan with its prices. Raises ``UnknownPrice`` for a model that is to be priced as one without."""
    table = PriceTable.load(cpu_hour_usd=options.get("cpu_hour_usd"))
    pricing = Pricing(student_as=config.price_student_as, teacher_as=config.price_teacher_as)
    for model in (config.price_teacher_as, config.price_student_as):
        if model is not None:
            table.price(model)
    if config.teacher == "expert" and config.price_teacher_as is None:
        note("The expert is not a language model and has no price: give --price-teacher-as MODEL to price it as one.")
    return Plan(
        config=config,
        tasks=tasks,
        context=msgspec.convert(config.context, ContextConfig),
        prices=table,
        pricing=pricing,
        db=options["db"],
        jobs=options["jobs"],
    )


# --- parts ----------------------------------------------------------------------------------------------------------


def pairs(given: Sequence[str] | None, example: str) -> dict[str, Any]:
    """KEY=VALUE options as a dictionary, values as JSON has them. Raises ``ConfigError``."""
    parsed: dict[str, Any] = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{pair}' is not KEY=VALUE. Type for example: {example}")
        parsed[key.strip().replace("-", "_")] = _scalar(value.strip())
    return parsed


def typed(options: Mapping[str, str | int | float | bool]) -> list[str]:
    """The inverse of ``pairs``: a text that would be read as another value is quoted as JSON has it."""
    return [
        f"{key}={value if isinstance(value, str) and _scalar(value.strip()) == value else _json(value)}"
        for key, value in options.items()
    ]


def _json(value: str | int | float | bool) -> str:
    return msgspec.json.encode(value).decode()


def _environment_options(options: dict[str, Any]) -> dict[str, Any]:
    parsed = pairs(options.get("environment_options"), "--option level=GoToLocal")
    if options.get("directory"):
        parsed["directory"] = options["directory"]
    return parsed


def _scalar(text: str) -> str | int | float | bool:
    try:
        value = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


def _default_split(splits: Sequence[str]) -> str:
    for name in ("test", "valid_seen"):
        if name in splits:
            return name
    return splits[-1]


def _policy(options: dict[str, Any], rule: str) -> Policy:
    return Policy(
        mode=_enum(EscalationMode, options["mode"], "escalation mode"),
        signal=_enum(Signal, options["signal"], "signal"),
        samples=options["samples"],
        threshold=_threshold(options),
        temperature=options["temperature"],
        alone_temperature=options["alone_temperature"],
        rule=agreement_rule(options.get("rule") or rule).name,
        sampling=_sampling(options),
        escalate_repeats=options["escalate_repeats"],
        keep_steps=options["keep_steps"],
        patience=options["patience"],
        teacher_share=options["teacher_share"],
        seed=options["seed"],
    )


def _budget(options: dict[str, Any]) -> float | None:
    """The most dollars of the run; None for no limit, which ``--max-cost inf`` says of a run that had one."""
    limit = options.get("max_cost_usd")
    return None if limit is None or math.isinf(limit) else float(limit)


def _threshold(options: dict[str, Any]) -> float:
    if options["threshold"] is not None:
        return float(options["threshold"])
    return LIKELIHOOD_THRESHOLD if options["signal"] == Signal.LIKELIHOOD else 1.0


def _sampling(options: dict[str, Any]) -> Sampling:
    """``auto``: whichever way of asking for N samples has the lower expected price; together where there is none."""
    if options["sampling"] != "auto":
        one_of("sampling", options["sampling"], ["auto", *Sampling])
        return Sampling(options["sampling"])
    student, table = options.get("student"), PriceTable.load()
    name = options.get("price_student_as") or student
    if not student or not name or not table.has(name):
        return Sampling.TOGETHER
    given = Assumptions()
    price = table.price(name)
    rates, _ = price.rates_for(0)
    prompt = given.system_tokens + given.context_tokens + given.turn_tokens * given.steps // 2
    return sampling_cost(
        TokenPrice(uncached=rates.input, cache_read=rates.read_rate, output=rates.output or 0.0),
        samples=options["samples"],
        input_tokens=prompt + given.tail_tokens,
        cached_tokens=prompt,
        output_tokens=given.output_tokens,
        disagreement=given.escalation,
        shares_prompt=shares_prompt(student) if name == student else price.cache.n_shares_prompt,
    ).cheaper


def _agent(options: dict[str, Any], model: str | None) -> Agent:
    listed = options.get("list_admissible")
    reasoning = _enum(Reasoning, options["reasoning"], "reasoning")
    # An answer that begins with reasoning is free text, also for models that could be held to the actions.
    free = reasoning is Reasoning.WITH_ACTION or not (model or "").startswith(CONSTRAINED)
    return Agent(
        plan=options["plan"],
        reasoning=reasoning,
        placement=_enum(Placement, options["placement"], "placement"),
        history_turns=options.get("history_turns"),
        list_admissible=free if listed is None else listed,
    )


def _teacher_agent(options: dict[str, Any]) -> Agent:
    """The teacher reads the whole history. An expert is no language model: it writes neither plans nor reasoning."""
    own: dict[str, Any] = {"list_admissible": True, "history_turns": None}
    if options.get("teacher") == "expert":
        own |= {"plan": False, "reasoning": Reasoning.NONE.value}
    agent = _agent({**options, **own}, options.get("teacher"))
    return msgspec.structs.replace(agent, first_thought=True) if _first_thought(options, agent) else agent


def _first_thought(options: dict[str, Any], agent: Agent) -> bool:
    """Whether the teacher thinks before it acts. Raises ``ConfigError`` for one that does not write its reasoning."""
    if not options.get("first_thought"):
        return False
    teacher = str(options.get("teacher"))
    if teacher.startswith(UNTHINKING):
        raise ConfigError(
            f"--first-thought is for a language model that is prompted to reason; '{teacher}' is none. Leave the "
            "option out, or name one: --teacher http:URL#MODEL --reasoning with-action --first-thought"
        )
    if agent.reasoning is not Reasoning.WITH_ACTION:
        raise ConfigError(
            "--first-thought begins a reasoning that stands before the action, and there is none with --reasoning "
            f"{agent.reasoning.value}. Type: --reasoning with-action --first-thought"
        )
    return True


def _context(options: dict[str, Any]) -> ContextConfig:
    return ContextConfig(
        k=options["k"],
        window=options["window"],
        mode=_enum(Mode, options["retrieval"], "retrieval mode"),
        style=_enum(Style, options["style"], "style"),
        ranker=options["ranker"],
        budget_tokens=options.get("context_budget"),
    )


def _enum(kind: type[Any], name: str, what: str) -> Any:
    try:
        return kind(name)
    except ValueError:
        raise UnknownName(what, name, [member.value for member in kind]) from None


def _name(config: RunConfig) -> str:
    today = datetime.datetime.now(tz=datetime.UTC)
    return f"{config.environment}-{today:%Y%m%d-%H%M%S}-{digest(config)[:4]}"
