"""Bad batches, refused before they become NaN: one line that says which row, what is wrong, and what is allowed.

It looks at values, so it costs a few passes over the batch and, on a GPU, a wait. Data checked once need it no more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.distill.weights.losses.targets import Logits, Probabilities, Teacher, TopK
from potstill.errors import ConfigError

SUM_TOLERANCE = 1e-3
"""How far from 1 a row of probabilities may add up: what single precision and printed digits leave."""


def check_student(logits_BA: Tensor, mask_BA: Tensor) -> None:
    """Raise ``ConfigError`` unless there are logits for a batch of actions, finite where admissible."""
    if logits_BA.dim() != 2 or not logits_BA.is_floating_point():
        raise ConfigError(
            f"The student's logits are {_form(logits_BA)}. Give floats of shape (batch, actions); "
            "a single decision is a batch of one."
        )
    if mask_BA.shape != logits_BA.shape or mask_BA.dtype != torch.bool:
        raise ConfigError(f"The mask is {_form(mask_BA)}. Give booleans of shape {tuple(logits_BA.shape)}.")
    _refuse(~mask_BA.any(-1), "has no admissible action. Leave such decisions out")
    lost_B = (~logits_BA.isfinite() & mask_BA).any(-1)
    _refuse(lost_B, "has logits of the student that are not finite: training diverged. Try a smaller learning rate")


def check_labels(labels_B: Tensor, mask_BA: Tensor) -> None:
    """Raise ``ConfigError`` unless each label is the index of an admissible action."""
    rows, actions = mask_BA.shape
    if labels_B.shape != (rows,) or labels_B.dtype != torch.int64:
        raise ConfigError(f"The labels are {_form(labels_B)}. Give {rows} indices of actions (int64).")
    outside_B = (labels_B < 0) | (labels_B >= actions)
    _refuse(outside_B, f"has a label that is not among the {actions} actions")
    _refuse(~mask_BA.gather(1, labels_B[:, None]).squeeze(1), "has a label that is not admissible")


def check_weights(weights_B: Tensor, mask_BA: Tensor) -> None:
    """Raise ``ConfigError`` unless there is one finite weight of at least 0 for each row."""
    if weights_B.shape != mask_BA.shape[:1] or not weights_B.is_floating_point():
        raise ConfigError(f"The weights are {_form(weights_B)}. Give {len(mask_BA)} floats, one a row.")
    _refuse(~(weights_B.isfinite() & (weights_B >= 0)), "has a weight that is negative or not finite")


def check_teacher(teacher: Teacher, mask_BA: Tensor) -> None:
    """Raise ``ConfigError`` unless the teacher's rows are distributions over the same actions."""
    if isinstance(teacher, TopK):
        _check_top_k(teacher, mask_BA)
        return
    values_BA = teacher.values_BA
    if values_BA.shape != mask_BA.shape or not values_BA.is_floating_point():
        raise ConfigError(
            f"The teacher told {_form(values_BA)} for a student of shape {tuple(mask_BA.shape)}. Both must know the "
            "same actions in the same order."
        )
    if isinstance(teacher, Logits):
        lost_B = ((values_BA.isnan() | values_BA.isposinf()) & mask_BA).any(-1)
        _refuse(lost_B, "has logits of the teacher that are NaN or infinite. -inf, for never, is allowed")
        _refuse(((values_BA == -torch.inf) | ~mask_BA).all(-1), "has no admissible action that the teacher may take")
        return
    _check_probabilities(teacher, mask_BA)


def _check_probabilities(teacher: Probabilities, mask_BA: Tensor) -> None:
    values_BA = teacher.values_BA
    _refuse(~(values_BA >= 0).all(-1), "has probabilities of the teacher that are negative or NaN")
    off_B = (values_BA.sum(-1) - 1).abs() > SUM_TOLERANCE
    _refuse(off_B, "has probabilities of the teacher that do not add up to 1. Give a softmax's, not sigmoids")
    _refuse(~((values_BA > 0) & mask_BA).any(-1), "has no admissible action that the teacher may take")


def _check_top_k(teacher: TopK, mask_BA: Tensor) -> None:
    values_BK, indices_BK = teacher
    rows, actions = mask_BA.shape
    if values_BK.shape != indices_BK.shape or values_BK.dim() != 2 or len(values_BK) != rows:
        raise ConfigError(
            f"The teacher's top-k are {_form(values_BK)} at {_form(indices_BK)}. Give both of shape ({rows}, k)."
        )
    if indices_BK.dtype != torch.int64:
        raise ConfigError(f"The indices of the teacher's top-k are {_form(indices_BK)}. Give int64.")
    told_BK = indices_BK >= 0
    _refuse((indices_BK >= actions).any(-1), f"has a top-k index that is not among the {actions} actions")
    _refuse((told_BK & ~(values_BK <= 0)).any(-1), "has a log-probability above 0, or NaN")
    sums_B = torch.where(told_BK, values_BK, -torch.inf).exp().sum(-1)
    _refuse(sums_B > 1 + SUM_TOLERANCE, "has top-k probabilities that add up to more than 1")
    ordered_BK = indices_BK.sort(-1).values
    twice_B = ((ordered_BK[:, 1:] == ordered_BK[:, :-1]) & (ordered_BK[:, 1:] >= 0)).any(-1)
    _refuse(twice_B, "names an action twice in its top-k")
    admissible_BK = mask_BA.gather(1, indices_BK.clamp(min=0)) & told_BK & (values_BK > -torch.inf)
    _refuse(~admissible_BK.any(-1), "has no admissible action in its top-k. Leave such decisions out")


def _refuse(wrong_B: Tensor, what: str) -> None:
    if bool(wrong_B.any()):
        rows = wrong_B.nonzero().flatten().tolist()
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise ConfigError(f"Row {rows[0]}{more} {what}.")


def _form(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"
