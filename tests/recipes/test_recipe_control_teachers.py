"""An agent of Stable-Baselines3 as a teacher's file: the same logits, also as it was saved, and no other networks."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")

import control_teachers as recipe  # noqa: E402

from potstill.edge.policy import open_policy  # noqa: E402
from potstill.envs.control.games import ACROBOT, CART_POLE  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra


def agent(kind: type = sb3.PPO, **policy):
    return kind("MlpPolicy", CART_POLE.id, policy_kwargs={"net_arch": [16, 8], **policy}, seed=3, device="cpu")


def logits(agent, seen: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return agent.policy.get_distribution(torch.tensor(seen)).distribution.logits.numpy()


def spread(values: np.ndarray) -> np.ndarray:
    """Log-probabilities: logits up to the constant that they are free in."""
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


SEEN = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.mark.parametrize(("kind", "layers", "activation"), [("PPO", None, "tanh"), ("A2C", torch.nn.ReLU, "relu")])
def test_a_saved_agent_decides_as_it_did(tmp_path: Path, kind: str, layers: type | None, activation: str) -> None:
    made = agent(getattr(sb3, kind), **({} if layers is None else {"activation_fn": layers}))
    made.save(tmp_path / "agent.zip")
    policy = open_policy(recipe.read(CART_POLE, tmp_path / "t.policy", tmp_path / "agent.zip", activation))
    assert policy.network.actions == CART_POLE.actions
    assert policy.config["sizes"] == [4, 16, 8, 2]
    np.testing.assert_allclose(spread(policy.network.logits(SEEN)), logits(made, SEEN), atol=1e-5)


def test_a_trained_one_is_kept_with_what_it_cost_and_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "WIDTH", 8)
    file = recipe.make(CART_POLE, tmp_path / "deep" / "t.policy", environment_steps=256)
    policy, before = open_policy(file), file.read_bytes()
    assert policy.manifest["metrics"]["environment_steps"] == 256
    assert recipe.make(CART_POLE, file, environment_steps=512).read_bytes() == before
    played = recipe.returns(CART_POLE, policy.network, range(recipe.FIRST_EPISODE, recipe.FIRST_EPISODE + 2))
    assert all(1 <= one <= 500 for one in played)


def test_other_agents_and_other_files_are_refused(tmp_path: Path) -> None:
    agent().save(tmp_path / "agent.zip")
    with pytest.raises(ConfigError, match=r"from 4 numbers to 2 actions, Acrobot-v1 from 6 to 3"):
        recipe.read(ACROBOT, tmp_path / "t.policy", tmp_path / "agent.zip")
    sb3.DQN("MlpPolicy", CART_POLE.id, device="cpu", buffer_size=10).save(tmp_path / "dqn.zip")
    with pytest.raises(ConfigError, match="no PPO or A2C agent"):
        recipe.read(CART_POLE, tmp_path / "t.policy", tmp_path / "dqn.zip")
    (tmp_path / "no.zip").write_text("no")
    for name in ("no.zip", "absent.zip"):
        with pytest.raises(ConfigError, match=r"is not what model\.save"):
            recipe.read(CART_POLE, tmp_path / "t.policy", tmp_path / name)
    for name, content in (("junk", b"junk"), ("list", [1]), ("words", {"a": "b"}), ("half", {"action_net.weight": 1})):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as file, file.open("policy.pth", "w") as inside:
            if isinstance(content, bytes):
                inside.write(content)
            else:
                saved = io.BytesIO()
                torch.save(content, saved)
                inside.write(saved.getvalue())
        with pytest.raises(ConfigError, match=r"is not what model\.save"):
            recipe.read(CART_POLE, tmp_path / "t.policy", tmp_path / f"{name}.zip")
    with pytest.raises(ConfigError, match="no PPO or A2C agent"):
        recipe.network_of({"action_net.weight": torch.zeros(2, 4)}, CART_POLE, "tanh")
    with pytest.raises(ConfigError, match="-5 environment steps"):
        recipe.make(CART_POLE, tmp_path / "t.policy", environment_steps=-5)
    assert not (tmp_path / "t.policy").exists()
