"""``potstill distill kickstart``: a policy learns on from its environment's rewards. Parses, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_estimate, emit_json, emit_table, json_option, note
from potstill.cli.run_options import Decorator, apply, typed_options
from potstill.cli.training_options import sign_option, threads_option

if TYPE_CHECKING:
    from potstill.cli.training.kickstarting import Kickstarted

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

_world_options: tuple[Decorator, ...] = (
    click.option("--env", "environment", help="cart-pole, acrobot or lunar-lander. [default: what POLICY learnt]"),
    click.option(
        "--teacher",
        metavar="expert|policy:FILE",
        help="Whose decisions pull the student at the states that it visits. [default: nobody's]",
    ),
    click.option(
        "--pull",
        type=click.FloatRange(0),
        default=1.0,
        show_default=True,
        help="Weight of KL(teacher || student), shown as kl_nats, at the beginning, beside the loss of PPO.",
    ),
    click.option(
        "--fades-until",
        type=float,
        default=0.5,
        show_default=True,
        help="Share of the training after which nothing of it is left: then the student may become better.",
    ),
)

_train_options: tuple[Decorator, ...] = (
    click.option("--environment-steps", type=int, default=50_000, show_default=True, help="Of all simulators."),
    click.option("--environments", type=int, default=8, show_default=True, help="Simulators side by side."),
    click.option("--horizon", type=int, default=128, show_default=True, help="Steps of each between times to learn."),
    click.option("--epochs", type=int, default=4, show_default=True, help="Passes over what was played."),
    click.option("--minibatches", type=int, default=4, show_default=True, help="Gradient steps of a pass."),
    click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="At first; it falls to 0."),
    click.option("--discount", type=float, default=0.99, show_default=True, help="Of a reward one step later."),
    click.option("--entropy", type=float, default=0.01, show_default=True, help="Weight of the policy's entropy."),
    click.option("--clip", type=float, default=0.2, show_default=True, help="How far PPO lets a probability move."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of episodes and batches."),
    threads_option,
)


@click.command()
@click.argument("policy", type=_FILE)
@apply(_world_options)
@apply(_train_options)
@click.option(
    "--play",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    metavar="N",
    help="Episodes that POLICY and the new file both play at the end, with seeds that nobody learnt from.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The file to write, such as better.policy.")
@sign_option
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same training.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop.")
@json_option
def kickstart(policy: Path, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Let POLICY, a perceptron, learn on from rewards (PPO), while its teacher's pull fades (arXiv 1803.03835).

    \b
    potstill distill weights --student mlp --env lunar-lander --out student.policy
    potstill distill kickstart student.policy --teacher expert --out better.policy

    A copy is at best as good as its teacher; rewards can make it better, and the teacher keeps it from forgetting at
    first. The environment is a simulator in this process. Each round of acting and learning ends with a checkpoint, in
    better.policy.training: --resume goes on after Ctrl-C or a kill, and ends with the same weights. The file is written
    only if, read back from the disk, it decides as what was trained; POLICY stands in its lineage as its parent.
    """
    from potstill.cli.training import kickstart_plan, kickstarting

    typed = typed_options()
    for name in ("environment", "teacher"):  # settings name models and worlds of runs
        if name not in typed:
            options[name] = None
    plan = kickstart_plan.planned(policy, options)
    if dry_run:
        emit_estimate(kickstarting.estimate(plan), json_mode)
        return
    print_kickstarted(kickstarting.make(plan), json_mode)


def print_kickstarted(made: Kickstarted, json_mode: bool) -> None:
    if json_mode:
        emit_json(made._asdict())
        return
    hidden = ("rounds", "parity", "manifest_sha256", "difference_ci")
    row = {name: value for name, value in made._asdict().items() if name not in hidden}
    emit_table(list(row), [list(row.values())], json_mode=False, title=made.file)
    if made.before is None or made.after is None:
        return
    said = f"{made.before:.1f} before, {made.after:.1f} now: {made.after - made.before:+.1f}"
    if made.difference_ci is not None:
        low, high = made.difference_ci
        said += f" ({low:+.1f} to {high:+.1f})"
    note(f"Mean return of {made.played} episodes with seeds that nobody learnt from, greedy: {said}.")
