"""From options to a learning run: who plays, who reflects and curates, on which episodes, and how it goes on later.

What it knows: which options belong together, and what is kept with the run so that ``--resume`` needs nothing else.
What it does not do: open models, spend, print (``playbook_session``).
"""

from __future__ import annotations

import datetime
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from potstill.cli import run_plan
from potstill.cli.output import note
from potstill.cli.run_options import context_options, defaults, policy_options
from potstill.cli.run_plan import LEARNING, Plan
from potstill.cli.trajectories import unix_seconds
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.learn.journal import Journal, Kind
from potstill.distill.playbook.learn.playing import replays
from potstill.distill.playbook.learn.result import taught
from potstill.distill.playbook.learn.settings import Mode, Settings
from potstill.distill.playbook.operations import Stage
from potstill.envs.registry import open_source
from potstill.errors import ConfigError, UnknownName
from potstill.run.runner import RunConfig, choose_tasks
from potstill.trajectories import Store
from potstill.trajectories.opening import read_store
from potstill.trajectories.queries import Summary
from potstill.types import Struct, Task

RESUME_TAKES = frozenset({"db", "namespace", "jobs", "max_cost_usd", "directory", "cpu_hour_usd"})
"""Options that change no result: these may be given with ``--resume``."""


ATTEMPTS = 3
"""How often ``--from-store`` takes an episode from which a role's answers let nothing be learnt; then only ``--again``
does: what is always refused must not stand in the way of newer episodes."""


class Setup(Struct, frozen=True, kw_only=True):
    """What a learning run is beside the student's own settings. Kept with the run."""

    book: str
    settings: Settings
    reflector: str
    curator: str
    episodes: tuple[str, ...] | None = None
    """Ids of recorded episodes; None: episodes are played."""
    validation_split: str | None = None
    validation_n: int | None = None
    label_key: str | None = None


class LearningPlan(NamedTuple):
    """A learning run that is ready to begin or to go on."""

    plan: Plan
    setup: Setup
    validation: list[Task]

    @property
    def name(self) -> str:
        return self.plan.config.run_id


def planned(run_id: str | None, options: dict[str, Any]) -> LearningPlan:
    """A new run. Raises ``ConfigError`` before anything is opened to be written or spent."""
    if not options["book"]:
        raise ConfigError("No playbook was named; it may be a new one. Type for example: --book house-rules")
    setup = Setup(
        book=options["book"],
        settings=_settings(options),
        reflector=_role(options, "reflector"),
        curator=_role(options, "curator"),
        episodes=_recorded(options) if options["from_store"] else None,
        validation_split=options.get("validation_split"),
        validation_n=options.get("validation_n"),
        label_key=options.get("label_key"),
    )
    plan = _of_recorded(options, setup) if setup.episodes is not None else _of_tasks(options)
    validation = _validation(plan, setup)
    name = run_id or _name(plan, setup)
    return LearningPlan(plan._replace(config=msgspec.structs.replace(plan.config, run_id=name)), setup, validation)


def resumed(name: str, options: dict[str, Any], given: Mapping[str, str]) -> LearningPlan:
    """A recorded run: its settings come from the store."""
    if changed := [flag for parameter, flag in given.items() if parameter not in RESUME_TAKES]:
        raise ConfigError(
            f"{', '.join(changed)} cannot be given with --resume: a resumed run keeps its settings. Leave it away, or "
            "start a new run without --resume."
        )
    with read_store(options["db"]) as store:
        config, setup = _stored(store, name, options["namespace"])
    settings = setup.settings
    if options.get("max_cost_usd") is not None:
        settings = msgspec.structs.replace(settings, max_cost_usd=_budget(options))
    if "jobs" in given:
        settings = msgspec.structs.replace(settings, parallel=options["jobs"])
    setup = msgspec.structs.replace(setup, settings=settings)
    tasks: list[Task] = []
    if setup.episodes is None:
        tasks = choose_tasks(_tasks(config, config.split, options.get("directory")), config.n, config.seed)
    plan = run_plan.finished(config, tasks, {**options, "jobs": settings.parallel})._replace(resumed=True)
    return LearningPlan(plan, setup, _validation(plan, setup, options.get("directory")))


def record_of(learning: LearningPlan) -> dict[str, Any]:
    """What the store keeps of the run. The student's part reads as that of any run, so that ``measure`` knows it."""
    plain: dict[str, Any] = msgspec.to_builtins(learning.plan.config)
    return {**plain, LEARNING: msgspec.to_builtins(learning.setup)}


# --- parts ----------------------------------------------------------------------------------------------------------


def _settings(options: Mapping[str, Any]) -> Settings:
    stage = None if options["first_stage"] is None else Stage(options["first_stage"])
    return Settings(
        mode=Mode(options["learn_mode"]),
        epochs=options["epochs"],
        rounds=options["rounds"],
        replay=options["replay"],
        window=options["learn_window"],
        batch=options["batch"],
        parallel=options["jobs"],
        label_stage=stage,
        execution_stage=stage,
        budget=Budget(tokens=options["playbook_budget"]),
        patience=options["learn_patience"],
        shuffle=options["shuffle"],
        seed=options["seed"],
        max_cost_usd=_budget(options),
    )


def _budget(options: Mapping[str, Any]) -> float | None:
    limit = options.get("max_cost_usd")
    return None if limit is None or math.isinf(limit) else float(limit)


def _role(options: Mapping[str, Any], role: str) -> str:
    """The model of a role: its own, else the teacher."""
    model = options.get(role) or options.get("teacher")
    if not model:
        raise ConfigError(
            f"No model was named as the {role}. Type --teacher MODEL for both roles, or --reflector and --curator"
        )
    if model == "expert":
        raise ConfigError(
            f"An environment's expert is no language model and cannot be the {role}. Type for example: "
            f"--{role} openai:gpt-4.1"
        )
    return str(model)


def _of_tasks(options: dict[str, Any]) -> Plan:
    if not options.get("student"):
        raise ConfigError(
            "No student was named, who plays the episodes. Type for example: --student local:smollm2-135m, or "
            "--from-store to learn from recorded episodes"
        )
    unused = defaults(policy_options, context_options)
    given = {**unused, **options, "playbook": options["book"], "plan": False, "seeds": 1}
    return run_plan.planned(None, given, "playbook")


def _of_recorded(options: dict[str, Any], setup: Setup) -> Plan:
    assert setup.episodes is not None
    config = RunConfig(
        run_id="",
        environment=options.get("environment") or "",
        split=options.get("split") or "",
        arms=(),
        n=len(setup.episodes),
        seed=options["seed"],
        teacher=options.get("teacher"),
        student=options.get("student"),
        price_teacher_as=options.get("price_teacher_as"),
        price_student_as=options.get("price_student_as"),
        teacher_options=run_plan.pairs(options.get("teacher_options"), "--teacher-option idle_s=600"),
        namespace=options["namespace"],
    )
    return run_plan.finished(config, [], options)


def _recorded(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The newest episodes of the store that the book was not taught from, in the order in which they came."""
    with read_store(options["db"]) as store:
        found = store.summaries(
            namespace=options["namespace"],
            environment=options.get("environment"),
            split=options.get("split"),
            run_id=options.get("from_run"),
            since=None if options["since"] is None else unix_seconds(options["since"]),
        )
        found = _without_replays(_without_tests(found, options), store, options["namespace"])
        book = Playbook(store, options["namespace"], options["book"])
        seen = set() if options["again"] else _learnt(book)
        forgotten = book.forgotten([one.id for one in found])
    if not found:
        raise ConfigError(
            f"No episode of namespace '{options['namespace']}' matches --env, --split, --from-run and --since. "
            "Type: potstill trajectories list"
        )
    new = [one.id for one in found if one.id not in seen and one.id not in forgotten]
    if not new:
        raise ConfigError(
            f"'{options['book']}' was taught from all {len(found)} episodes that match, or in {ATTEMPTS} attempts "
            "nothing could be learnt from them. To learn from them once more, type: --again"
        )
    return tuple(new[-options["n"] :] if options.get("n") else new)


def _without_tests(found: Sequence[Summary], options: Mapping[str, Any]) -> list[Summary]:
    """Without episodes of splits that are tested on, unless a split or a run was typed: a book that was taught from
    them could not be judged by them. What has no split, such as a gateway's, stays."""
    if options.get("split") or options.get("from_run"):
        return list(found)
    stay = [one for one in found if one.split in ("", "train")]
    if len(stay) < len(found):
        splits = ", ".join(sorted({one.split for one in found} - {"", "train"}))
        note(
            f"{len(found) - len(stay)} of {len(found)} episodes were left out, which are of other splits than train: "
            f"{splits}. To learn from one of these, type: --split NAME"
        )
    return stay


def _without_replays(found: Sequence[Summary], store: Store, namespace: str) -> list[Summary]:
    """Without what learning runs, of whichever book, played again with a reflection: it is no success of a student's
    own, and what it teaches was in its prompt."""
    runs = [(Playbook(store, namespace, one.name), one.run) for one in store.learning_runs(namespace)]
    told = {id for book, run in runs for id in replays(book, run)}
    stay = [one for one in found if one.id not in told]
    if len(stay) < len(found):
        note(f"{len(found) - len(stay)} of {len(found)} episodes were left out, which learning runs had played again.")
    return stay


def _learnt(book: Playbook) -> set[str]:
    """Episodes that the book was taught from, also those that taught it nothing, and those that validated it: what is
    judged by them must not have been learnt from them. An episode whose Reflector or Curator gave nothing usable is
    none of these, until that was so ``ATTEMPTS`` times; its votes may be in the book."""
    runs = [one.run for one in book.store.learning_runs(book.namespace, book.name)]
    rows = [row for run in runs for _, row in Journal(book, run).rows() if row.kind in (Kind.LEARN, Kind.VALIDATE)]
    done = {id for row in rows for id in (taught(row) if row.kind is Kind.LEARN else row.episodes)}
    skipped = Counter(skip.episode for row in rows if row.kind is Kind.LEARN for skip in row.skipped)
    open_ = {id for id, times in skipped.items() if times < ATTEMPTS} - done
    sources = {source for entry in book.log() for source in entry.batch.sources}
    return (sources | done | skipped.keys()) - open_


def _validation(plan: Plan, setup: Setup, directory: str | None = None) -> list[Task]:
    split, config = setup.validation_split, plan.config
    if split is None:
        return []
    if setup.episodes is not None:
        raise ConfigError("--validate-split plays tasks, and --from-store plays none. Leave one of them away.")
    if split == config.split:
        raise ConfigError(f"--validate-split is '{split}', the split that is learnt from. Name another one.")
    return choose_tasks(_tasks(config, split, directory), setup.validation_n, config.seed)


def _tasks(config: RunConfig, split: str, directory: str | None) -> Any:
    given: dict[str, Any] = dict(config.environment_options)
    if directory:
        given["directory"] = directory
    return open_source(config.environment, **given).tasks(split)


def _stored(store: Store, name: str, namespace: str) -> tuple[RunConfig, Setup]:
    runs = {run.run_id: run.config for run in store.runs(namespace=namespace) if LEARNING in run.config}
    if not runs:
        raise ConfigError(f"{store.path} holds no learning run of namespace '{namespace}' to resume.")
    if name != "last" and name not in runs:
        raise UnknownName("learning run", name, runs)
    config = runs[name if name != "last" else list(runs)[-1]]
    return msgspec.convert(config, RunConfig), msgspec.convert(config[LEARNING], Setup)


def _name(plan: Plan, setup: Setup) -> str:
    today = datetime.datetime.now(tz=datetime.UTC)
    mark = hashlib.sha256(msgspec.json.encode([plan.config, setup])).hexdigest()[:4]
    return f"learn-{setup.book}-{today:%Y%m%d-%H%M%S}-{mark}"
