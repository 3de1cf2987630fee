"""``potstill distill weights``: a teacher's recorded episodes become a small policy in one file. Parses, prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.lm_options import lm_options, refuse_lm_options, tune
from potstill.cli.output import emit_estimate, emit_json, emit_table, json_option, note
from potstill.cli.run_options import Decorator, apply, teacher_model_options, typed_options
from potstill.cli.training_options import (
    batch_option,
    playing_options,
    schedule_option,
    sign_option,
    source_options,
    threads_option,
)
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.cli.training.making import Made
    from potstill.cli.training.plan import WeightsPlan

episode_options: tuple[Decorator, ...] = (
    *source_options,
    click.option(
        "--teachers",
        default="pooled",
        show_default=True,
        help="Of several teachers' episodes: pooled (each label as it is, successes only), weighed (one label a "
        "situation, as sure as those who chose it are reliable), routed (each kind of task from its best teacher). How "
        "reliable they are is told from where they agree and how their episodes ended.",
    ),
    click.option(
        "--debates",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Learn, too, what debates in this file (potstill distill debates) tell apart: pairs of a right and a "
        "wrong action.",
    ),
    click.option(
        "--debate-share", type=float, default=0.3, show_default=True, help="Of all weight, that of the pairs."
    ),
    click.option(
        "--debate-pairs",
        default="all",
        show_default=True,
        help="all (every right turn with every wrong one) or answered (only where one heard the other).",
    ),
)

train_options: tuple[Decorator, ...] = (
    click.option(
        "--student",
        default="ranker",
        show_default=True,
        help="ranker (reads texts), film (grids), mlp (vectors) or lm (a language model, tuned).",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and batches."),
    click.option("--epochs", type=click.IntRange(1), default=30, show_default=True, help="How often, at most."),
    click.option("--steps", type=click.IntRange(1), help="Gradient steps at most, instead of --epochs."),
    batch_option,
    click.option("--width", type=int, default=64, show_default=True, help="Of a ranker's texts, an mlp's layers."),
    click.option("--layers", type=click.IntRange(0), default=1, show_default=True, help="Hidden ones, of an mlp."),
    click.option("--learning-rate", type=float, default=2e-3, show_default=True, help="The highest (AdamW)."),
    schedule_option,
    click.option(
        "--patience",
        type=click.IntRange(0),
        default=8,
        show_default=True,
        help="Looks at held-out tasks without a better one that end the training; 0: none does.",
    ),
    click.option(
        "--loss",
        "loss_options",
        multiple=True,
        help="KEY=VALUE of the loss: kind=soft, temperature=2, direction=reverse, ...; repeatable. "
        "[default: kind=hard]",
    ),
    click.option(
        "--adapt",
        "adaptive_rules",
        multiple=True,
        metavar="NAME=FROM:TO",
        help="Let temperature, hard_share or curriculum (share of the decisions shown, the easiest first) follow what "
        "the student has learnt, such as temperature=4:1; repeatable.",
    ),
    click.option(
        "--mix",
        "mixed",
        multiple=True,
        metavar="KEY=VALUE,...",
        help="One of several losses, with its share of the gradient: kind=soft,temperature=2,share=0.5; repeatable, "
        "instead of --loss.",
    ),
    click.option(
        "--balance/--no-balance",
        "balanced",
        default=True,
        show_default=True,
        help="With --mix: a share is a share of the gradient, whatever a loss's scale; else a plain factor.",
    ),
    click.option(
        "--augment",
        multiple=True,
        metavar="NAME",
        help="Of a film student: show each decision changed at random in every batch, alike in grid, mission and past. "
        "colours (exchanged: right where a colour is a name and not a meaning), rotations (of the world under the "
        "agent: right where no mission speaks of north); repeatable.",
    ),
    click.option("--look-every", type=click.IntRange(1), help="Steps between two looks at held-out tasks; an epoch's."),
    threads_option,
    click.option(
        "--processes",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Processes on this machine that share each step's decisions, each with --threads: a large batch takes "
        "less time. Not for lm, nor with --search or --augment.",
    ),
)

search_options: tuple[Decorator, ...] = (
    click.option(
        "--search",
        type=click.IntRange(2),
        metavar="TRIALS",
        help="Try so many recipes first (loss, temperature, width, learning rate, share of the tasks, weights of "
        "environments), those that fall behind for fewer steps, and train the best. They are judged by tasks that are "
        "learnt from otherwise, never by held-out ones.",
    ),
    click.option(
        "--search-cpu-s",
        type=click.FloatRange(0, min_open=True),
        help="Start no new trial once so many CPU seconds went into trials.",
    ),
    click.option(
        "--search-labels",
        type=click.IntRange(1),
        help="Learn no more of the teacher's labels, in whole tasks, in trials and at the end.",
    ),
    click.option(
        "--search-for",
        default="success",
        show_default=True,
        help="What is trained at the end: the best value (success), or of all that are about as good the smallest, "
        "also pruned and in fewer bits (bytes), or that which learnt the fewest labels (labels).",
    ),
    click.option(
        "--search-within",
        type=click.FloatRange(0, 1),
        default=0.01,
        show_default=True,
        help="About as good: so much below the best value, with --search-for bytes or labels.",
    ),
)

dagger_options: tuple[Decorator, ...] = (
    click.option(
        "--dagger",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        metavar="ROUNDS",
        help="Then so many rounds of the student's own episodes on tasks that are not held out, in which the teacher "
        "says what it would have done, each followed by more training (arXiv 1011.0686). --steps are shared out.",
    ),
    click.option("--labels", type=click.IntRange(1), help="Answers of the teacher in all rounds together."),
    click.option(
        "--beta",
        default="linear:0.5",
        show_default=True,
        help="How probably the teacher acts where it is asked: constant:P, linear:P (down to 0), exponential:P.",
    ),
    click.option(
        "--ask-below",
        type=float,
        default=0.7,
        show_default=True,
        help="Ask where the student is less sure, or repeats itself; 1: at every step.",
    ),
    click.option(
        "--certainty", default="likelihood", show_default=True, help="How sure: likelihood, margin or entropy."
    ),
    click.option("--ask-share", type=float, default=0.0, show_default=True, help="Ask at a share of the other steps."),
    click.option(
        "--round-episodes", type=click.IntRange(1), help="Most episodes of a round. [default: while labels are left]"
    ),
    click.option("--label-run", metavar="NAME", help="Run that the episodes go into. [default: the file's name]"),
    *teacher_model_options,
    click.option("--cpu-hour-usd", type=float, help="Price the student by CPU time, in dollars an hour."),
    click.option(
        "--max-cost",
        "max_cost_usd",
        type=click.FloatRange(0, min_open=True),
        help="Start no new episode once those with labels have cost so many dollars.",
    ),
)


@click.command()
@apply(episode_options)
@apply(train_options)
@apply(search_options)
@apply(lm_options)
@apply(
    playing_options(
        "Play so many held-out tasks at each look: successes, not agreement, say when to stop, and the file must do as "
        "many as what was trained.",
        "--play and --dagger",
    )
)
@apply(dagger_options)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The file to write, such as student.policy; with lm a folder."
)
@sign_option
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same training.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained and how long it takes, and stop.")
@json_option
def weights(dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Train a small policy on a teacher's recorded, successful episodes, and write it as one file that any arm can use.

    \b
    potstill distill context --env minigrid --split train --n 300 --teacher expert
    potstill distill weights --out student.policy
    potstill run --env minigrid --student policy:student.policy --arm zero-shot --n 40
    potstill distill weights --out better.policy --dagger 3 --labels 500 --teacher expert

    The file is written only if, read back from the disk, it decides as what was trained. Beside it, in
    student.policy.training, are the data and the checkpoint from which --resume goes on after Ctrl-C or a kill: it
    ends with the same weights. A policy chooses among the actions that an environment lists; it writes no text.

    \b
    potstill distill weights --student lm --base smollm2-135m --out student-lm
    potstill run --env minigrid --student tuned:student-lm --arm zero-shot --n 40

    With lm a language model is tuned instead (low-rank adapters, extra lm) on the prompts that run sends.
    """
    options = _chosen(options)
    refuse_processes(options)
    if options["student"] == "lm":
        refuse_debates(typed_options())
        if options["search"] is not None:
            raise ConfigError("--search tries recipes of small policies, not of a language model. Leave one away.")
        tune(options, dry_run=dry_run, json_mode=json_mode)
        return
    from potstill.cli.training import making
    from potstill.cli.training.plan import planned, to_replace

    refuse_lm_options(typed_options())
    plan = planned(options)
    if not dry_run:
        to_replace(plan.out, plan.resume)
    if options["search"] is not None:
        from potstill.cli.training import search

        searching = search.planned(plan, options, typed_options())
        if dry_run:
            emit_estimate(search.estimate(searching), json_mode)
            return
        print_made(search.make(searching), plan, json_mode)
        return
    if dry_run:
        emit_estimate(making.estimate(plan), json_mode)
        return
    if plan.dagger is not None:
        from potstill.cli.training import dagger

        print_made(dagger.make(plan, plan.dagger), plan, json_mode)
        return
    print_made(making.make(plan), plan, json_mode)


def _chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Settings are about models and worlds to play: which student is trained, and on what, is what was typed."""
    typed = typed_options()
    if "student" not in typed:
        options["student"] = "ranker"
    if "environment" not in typed:
        options["environment"] = ()
    plays = options["play"] or options["dagger"]
    if not plays and "directory" not in typed:
        options["directory"] = None
    if "augment" in typed and options["student"] != "film":
        raise ConfigError("--augment changes grids, for a film student. Type: --student film, or leave it away.")
    about = [typed[name] for name in ("debate_share", "debate_pairs") if name in typed]
    if about and options["debates"] is None:
        raise ConfigError(f"{about[0]} is for --debates, which names no file. Type for example: --debates FILE")
    asking = ("labels", "beta", "ask_below", "certainty", "ask_share", "round_episodes", "label_run", "teacher")
    if options["search"] is not None and options["debates"] is not None:
        raise ConfigError("--search tries recipes without pairs, so it cannot judge --debates. Give one of both.")
    of_search = [
        typed[name] for name in ("search_cpu_s", "search_labels", "search_for", "search_within") if name in typed
    ]
    if of_search and options["search"] is None:
        raise ConfigError(f"{of_search[0]} is for --search, which is not given. Type for example: --search 20")
    alone = [typed[name] for name in asking if name in typed]
    if alone and not options["dagger"]:
        raise ConfigError(f"{alone[0]} is for --dagger, which is 0. Type for example: --dagger 3")
    return options


def refuse_processes(options: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` where one process alone can train."""
    for there, what in ((options["student"] == "lm", "--student lm"), (options["search"] is not None, "--search")):
        if there and options["processes"] > 1:
            raise ConfigError(
                f"--processes is {options['processes']}, and {what} trains in one process. Leave --processes away; "
                f"more of the machine is used by --threads {options['processes']}"
            )
    if options["augment"] and options["processes"] > 1:
        raise ConfigError(
            f"--augment {options['augment'][0]} draws by whole batches, and --processes {options['processes']} shares "
            "them out. Leave one of both away."
        )


def refuse_debates(typed: Mapping[str, str]) -> None:
    """Raises ``ConfigError`` where debates are given to a student that writes texts."""
    if "debates" in typed:
        raise ConfigError("--debates holds pairs of actions, for a ranker or film. Leave it away, or --student ranker.")


HIDDEN = ("parity", "data", "manifest_sha256", "reliability", "rounds", "search", "environments")
"""Of what was made, what the table leaves out and ``--json`` has."""


def print_made(made: Made, plan: WeightsPlan, json_mode: bool) -> None:
    from potstill.cli.next_run import next_run
    from potstill.distill.weights.data.environments import names_of

    if json_mode:
        emit_json(made._asdict())
        return
    shown = {name: value for name, value in made._asdict().items() if name not in HIDDEN}
    emit_table(list(shown), [list(shown.values())], json_mode=False, title=str(plan.out))
    if made.environments:
        rows = [{"environment": name, **told} for name, told in made.environments.items()]
        emit_table(list(rows[0]), [list(row.values()) for row in rows], json_mode=False, title="by environment")
    if made.rounds:
        emit_table(list(made.rounds[0]), [list(row.values()) for row in made.rounds], json_mode=False, title="rounds")
    if made.search is not None and (rows := made.search["frontier"]):
        title = (
            f"the frontier of {len(made.search['trials'])} trials: value is {made.search['judged_by']} in other tasks"
        )
        emit_table(list(rows[0]), [list(row.values()) for row in rows], json_mode=False, title=title)
    parity, names = made.parity, names_of(plan.environment)
    note(
        f"The file decides as what was trained: agreement {parity['agreement']:.4g}, largest difference "
        f"{parity['difference']:.2g} on {parity['questions']} held-out questions in {parity['shapes']} shapes."
    )
    if made.success is not None:
        count, of = parity["success"]["episodes"], " and ".join(names)
        mean = f", on the average of {of}, which count the same" if len(names) > 1 else ""
        note(f"It did {made.success:.1%} of the {count} held-out tasks that were played{mean}.")
    command = next_run(plan.db, plan.filters, names[0], f"policy:{plan.out}")
    note(f"It chooses among admissible actions. Next: {command}")
