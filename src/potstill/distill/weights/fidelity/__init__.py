"""How alike a student and its teacher decide, beside whether the student succeeds.

``decisions`` compares them in equal situations (agreement, KL), ``tools`` the tools they call and the arguments they
give, ``episodes`` whole episodes (where they part, loops, whether a plan is kept), ``runs`` all of this of two recorded
runs. Each number comes with its n, and a share with an interval that takes a task, not a decision, as the unit
(``measure.statistics``). numpy only.
"""

from potstill.distill.weights.fidelity.decisions import chosen, kl, top1
from potstill.distill.weights.fidelity.episodes import (
    Cycle,
    Loops,
    Parting,
    cycle,
    first_divergence,
    kept_in_order,
    loops,
    parting,
    plan_adherence,
)
from potstill.distill.weights.fidelity.runs import RunFidelity, Walked, run_fidelity, walked
from potstill.distill.weights.fidelity.shares import Mean, Share, mean, share
from potstill.distill.weights.fidelity.tools import Arguments, ToolChoice, ToolShare, arguments, tool_choice

__all__ = [
    "Arguments",
    "Cycle",
    "Loops",
    "Mean",
    "Parting",
    "RunFidelity",
    "Share",
    "ToolChoice",
    "ToolShare",
    "Walked",
    "arguments",
    "chosen",
    "cycle",
    "first_divergence",
    "kept_in_order",
    "kl",
    "loops",
    "mean",
    "parting",
    "plan_adherence",
    "run_fidelity",
    "share",
    "tool_choice",
    "top1",
    "walked",
]
