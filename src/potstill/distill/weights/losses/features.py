"""Feature matching: the student's inner representation learns the teacher's (arXiv 1412.6550, section 2.2).

Where widths differ a linear map is learned beside the student and thrown away afterwards: give its parameters to the
optimiser too. It does not reach into networks: whoever trains hands the features over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from potstill.errors import ConfigError


def projection(student_width: int, teacher_width: int, *, seed: int = 0) -> nn.Linear | None:
    """A map from the student's features to the teacher's, or None where both are equally wide.

    Its first values come from the seed alone; PyTorch's own generator is left as it was.
    """
    if min(student_width, teacher_width) < 1:
        raise ConfigError(f"Features of width {student_width} and {teacher_width} cannot be compared. Give at least 1.")
    if student_width == teacher_width:
        return None
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return nn.Linear(student_width, teacher_width, bias=False)


def feature_rows(student_BD: Tensor, teacher_BE: Tensor, mapped: nn.Module | None = None) -> Tensor:
    """The mean squared difference of each row, shape ``(B,)``, averaged over the teacher's width.

    No gradient flows into the teacher. Raises ``ConfigError`` if the widths differ and no projection is given.
    """
    ours_BE = student_BD if mapped is None else mapped(student_BD)
    if ours_BE.shape != teacher_BE.shape:
        raise ConfigError(
            f"The student's features are {tuple(ours_BE.shape)}, the teacher's {tuple(teacher_BE.shape)}. "
            "Give projection(student_width, teacher_width), and one row for each of the teacher's."
        )
    difference_BE = ours_BE - teacher_BE.detach().to(ours_BE.dtype)
    return difference_BE.square().mean(-1)
