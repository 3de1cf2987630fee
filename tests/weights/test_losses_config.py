"""Losses as configuration: nonsense is refused in words. No PyTorch is needed, nor loaded."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from potstill.distill.weights.losses.config import Direction, Kind, Loss, Rest, build
from potstill.errors import ConfigError, UnknownName


def test_options_as_typed_become_a_loss() -> None:
    made = build({"kind": "soft", "direction": "jensen-shannon", "temperature": "2.5", "hard_share": "0.1"})
    assert made == Loss(kind=Kind.SOFT, direction=Direction.JENSEN_SHANNON, temperature=2.5, hard_share=0.1)
    assert build({"rest": "renormalised"}).rest is Rest.RENORMALISED
    assert build({}) == Loss()
    assert (build({"kind": "hard"}).needs_labels, build({"kind": "hard"}).needs_teacher) == (True, False)
    assert (Loss(hard_share=0.5).needs_labels, Loss().needs_labels, Loss().needs_teacher) == (True, False, True)


def test_a_loss_survives_json() -> None:
    made = Loss(direction=Direction.REVERSE, temperature=4.0, hard_share=0.2, smoothing=0.1)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Loss) == made


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0}, "temperature=0 is out of range. Give one from 0.01 to 100"),
        ({"temperature": "nan"}, "temperature=nan is not a number"),
        ({"temperature": "warm"}, "cannot be made from"),
        ({"hard_share": 1.5}, "hard_share=1.5 is out of range"),
        ({"hard_share": 1}, "Give kind=hard"),
        ({"smoothing": 0.1}, "hard_share is 0"),
        ({"smoothing": 1, "kind": "hard"}, "smoothing=1 leaves nothing"),
        ({"kind": "hard", "temperature": 2}, "temperature=2.0 means nothing for kind=hard"),
        ({"kind": "hard", "direction": "reverse"}, "direction=reverse means nothing"),
        ({"kind": "hard", "hard_share": 0.5}, "hard_share=0.5 means nothing"),
        ({"kind": "hard", "rest": "renormalised"}, "rest=renormalised means nothing"),
    ],
)
def test_values_that_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "sft"}, "No kind named 'sft'.* Available: hard, margin, soft"),
        ({"direction": "forwards"}, "Did you mean 'forward'"),
        ({"rest": "buckets"}, "Did you mean 'bucket'"),
        ({"temprature": 2}, "Did you mean 'temperature'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(options: dict[str, object], said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        build(options)


def test_a_loss_made_by_hand_is_checked_too() -> None:
    with pytest.raises(UnknownName, match="No direction named 'sideways'"):
        Loss(direction="sideways")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="temperature=inf is not a number"):
        Loss(temperature=float("inf"))


def test_neither_the_configuration_nor_fidelity_loads_pytorch() -> None:
    code = (
        "import sys\n"
        "import potstill.distill.weights.losses.config, potstill.distill.weights.losses.spans\n"
        "import potstill.distill.weights.fidelity, potstill.distill.weights.soft_labels\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
