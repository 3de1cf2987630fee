"""``potstill distill kickstart``: a policy learns on from rewards, survives SIGKILL, and says where it comes from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gymnasium")

from potstill.cli.main import main  # noqa: E402
from potstill.distill.weights import artefact  # noqa: E402
from potstill.distill.weights.lineage import Dataset, Manifest, read  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.distill.weights.train.simulators import Actors  # noqa: E402
from potstill.edge.policy import open_policy  # noqa: E402
from potstill.envs.control.environment import simulator  # noqa: E402
from potstill.envs.control.games import ACROBOT, CART_POLE, GAMES, LUNAR_LANDER, Game  # noqa: E402
from potstill.envs.control.rules import rules_of  # noqa: E402
from potstill.errors import ConfigError, MissingExtra  # noqa: E402

pytestmark = pytest.mark.extra
HERE = Path(__file__).parent
SHORT = ("--environment-steps", 1024, "--environments", 4, "--horizon", 64, "--play", 2)


def policy(path: Path, game: Game = CART_POLE, *, actions: tuple[str, ...] | None = None, seed: int = 0) -> Path:
    """Of drawn weights; ``actions``: its own order."""
    drawn = np.random.default_rng(seed)
    names = actions or game.actions
    sizes = [game.numbers, 8, len(names)]
    arrays = {}
    for index, (wide, out) in enumerate(pairwise(sizes)):
        arrays[f"layers.{index}.weight"] = drawn.normal(0, 0.4, (out, wide)).astype(np.float32)
        arrays[f"layers.{index}.bias"] = np.zeros(out, np.float32)
    config = {"kind": "mlp", "sizes": sizes, "activation": "tanh", "actions": list(names)}
    learnt = Manifest(datasets=(Dataset(name=game.name, sha256="0" * 64),))
    return Path(artefact.write(path, arrays, config, learnt).path)


def balancing(path: Path) -> Path:
    """A teacher for the pole: it pushes to the side to which the pole leans and turns."""
    weights = np.array([[0, 0, -4, -2], [0, 0, 4, 2]], np.float32)
    arrays = {"layers.0.weight": weights, "layers.0.bias": np.zeros(2, np.float32)}
    config = {"kind": "mlp", "sizes": [4, 2], "activation": "tanh", "actions": list(CART_POLE.actions)}
    return Path(artefact.write(path, arrays, config, Manifest()).path)


def kickstart(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["distill", "kickstart", *map(str, words)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_a_pull_towards_a_teacher_makes_it_better_and_lineage_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, teacher = policy(tmp_path / "s.policy"), balancing(tmp_path / "t.policy")
    out = tmp_path / "better.policy"
    words = ("--teacher", f"policy:{teacher}", "--out", out, "--environment-steps", 8192, "--pull", 3, "--json")
    code, printed, err = kickstart(capsys, start, *words, "--learning-rate", 0.01)
    assert code == 0, err
    told: dict[str, Any] = json.loads(printed)
    assert told["before"] < 100
    assert told["after"] > 300
    assert told["environment_steps"] == 8192
    assert told["asked"] == 4096, "while the pull fades, in the first half"
    assert [one["kl_nats"] is None for one in told["rounds"]] == [False] * 4 + [True] * 4
    lineage = read(out).manifest
    assert [one.manifest_sha256 for one in lineage.parents] == [read(start).sha256]
    assert lineage.configuration["kickstart"]["pull"] == 3
    assert [one.model for one in lineage.teachers] == [f"policy:{teacher}"]
    assert verify([out, start]).passed
    assert told["parity"]["agreement"] == 1


def test_a_killed_one_ends_with_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is killed in the middle of episodes: the simulators are played again to where they were."""
    start = policy(tmp_path / "s.policy")
    words = [start, *SHORT, "--teacher", f"policy:{balancing(tmp_path / 't.policy')}", "--out"]
    assert kickstart(capsys, *words, tmp_path / "whole.policy")[0] == 0
    out = tmp_path / "killed.policy"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    killed = subprocess.run(
        [sys.executable, str(HERE / "kickstart_killed.py"), "512", "distill", "kickstart", *map(str, [*words, out])],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    kept = torch.load(tmp_path / "killed.policy.training" / "kickstart.pt", weights_only=True)
    assert [row[0] for row in kept["history"]] == [256, 512]
    assert any(actions for _, actions in json.loads(kept["actors"])["episodes"]), "within episodes"
    code, _, err = kickstart(capsys, *words, out, "--seed", 1, "--resume")
    assert (code, "(its value / this one's): seed 0 / 1." in err) == (2, True), err
    code, _, err = kickstart(capsys, *words, out, "--resume")
    assert code == 0, err
    assert out.read_bytes() == (tmp_path / "whole.policy").read_bytes()


@pytest.mark.parametrize("game", list(GAMES.values()), ids=list(GAMES))
def test_every_simulator_can_be_played_again_to_where_it_was(game: Game) -> None:
    def make() -> Any:
        try:
            return simulator(game)
        except MissingExtra:
            pytest.skip("no Box2D")

    def even(seen: np.ndarray) -> np.ndarray:
        return np.zeros((len(seen), len(game.actions)))

    def beginning() -> Actors:
        return Actors([make(), make()], seed=5)

    whole = beginning()
    whole.play(even, 150)
    told = json.loads(json.dumps(whole.played()))
    again = beginning()
    again.play_again(told, whole.observations_ED)
    first, second = whole.play(even, 100), again.play(even, 100)
    assert (first.observations_TED == second.observations_TED).all()
    assert (first.rewards_TE == second.rewards_TE).all()
    assert first.returns == second.returns
    with pytest.raises(ConfigError, match="shows something else"):
        beginning().play_again(told, whole.observations_ED + 1)


def test_actions_keep_their_names_whatever_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A teacher that names its actions the other way round pulls towards the same actions."""
    start = policy(tmp_path / "s.policy", actions=tuple(reversed(CART_POLE.actions)))
    teacher, out = balancing(tmp_path / "t.policy"), tmp_path / "better.policy"
    words = ("--teacher", f"policy:{teacher}", "--out", out, "--environment-steps", 8192, "--pull", 3)
    code, printed, err = kickstart(capsys, start, *words, "--learning-rate", 0.01, "--json")
    assert code == 0, err
    assert json.loads(printed)["after"] > 300
    assert open_policy(out).config["actions"] == ["push right", "push left"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--env", "acrobot"), "has the actions push left, push right; acrobot has"),
        (("--env", "minigrid"), "environment with rewards"),
        (("--teacher", "expert"), "'cart-pole' has no rules"),
        (("--teacher", "openai:gpt"), "asked in every state"),
        (("--teacher", "expert", "--pull", 0), "--pull is 0"),
        (("--environment-steps", 10), "less than one round"),
        (("--resume",), "there is no checkpoint"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[object, ...], said: str
) -> None:
    start = policy(tmp_path / "s.policy")
    code, _, err = kickstart(capsys, start, "--out", tmp_path / "o.policy", *more)
    assert code == 2
    assert said in err, err
    assert list(tmp_path.iterdir()) == [start]


def test_the_file_itself_and_other_kinds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import policy_files

    start = policy(tmp_path / "s.policy")
    code, _, err = kickstart(capsys, start, "--out", start)
    assert (code, "Type another --out" in err) == (2, True), err
    ranker = policy_files.write_policy(tmp_path / "r.policy")
    code, _, err = kickstart(capsys, ranker, "--out", tmp_path / "o.policy")
    assert (code, "of the kind 'ranker'" in err) == (2, True), err


def test_the_landers_rules_read_what_is_seen(tmp_path: Path) -> None:
    pytest.importorskip("Box2D")
    rules = rules_of(LUNAR_LANDER)
    assert rules is not None
    assert rules_of(ACROBOT) is None
    falling = np.array([0, 1.4, 0, -1.5, 0, 0, 0, 0], np.float32)
    assert LUNAR_LANDER.actions[rules(falling)] == "fire main engine"
