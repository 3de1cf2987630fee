"""Which control tasks there are: their names, actions, limits and thresholds, in words and as numbers.

What it knows: what a task is called and when it counts as done. What it does not do: simulate (``environment``). It
imports nothing of gymnasium, so tasks can be listed without it.
"""

from __future__ import annotations

from potstill.types import Struct


class Game(Struct, frozen=True, kw_only=True):
    """One control task of gymnasium."""

    name: str
    """As ``potstill run --env`` takes it."""
    id: str
    """As ``gymnasium.make`` takes it."""
    goal: str
    instructions: str
    actions: tuple[str, ...]
    """In the order of gymnasium's numbers."""
    numbers: int
    """Of an observation."""
    max_steps: int
    """After so many steps gymnasium itself ends the episode (its registration)."""
    threshold: float
    """The return from which gymnasium calls the task solved (``reward_threshold`` of its registration)."""
    random_return: float
    """Mean return of even random actions over 200 episodes, rounded: the 0 of the score."""

    def score(self, episode_return: float) -> float:
        """``(return - random) / (threshold - random)`` cut to [0, 1]: 0 as random actions, 1 from the threshold on."""
        share = (episode_return - self.random_return) / (self.threshold - self.random_return)
        return min(1.0, max(0.0, share))


_READ = "The observation is a JSON list of numbers: "

CART_POLE = Game(
    name="cart-pole",
    id="CartPole-v1",
    goal="Keep the pole upright and the cart on its track for 500 steps.",
    instructions=f"You push a cart on a track with a pole hinged to it. {_READ}the cart's position and velocity, the "
    "pole's angle (radians, 0 is upright) and angular velocity. Every step gives a reward of 1; the episode ends when "
    "the pole leans by more than 12 degrees or the cart leaves the track.",
    actions=("push left", "push right"),
    numbers=4,
    max_steps=500,
    threshold=475.0,
    random_return=23.0,
)

LUNAR_LANDER = Game(
    name="lunar-lander",
    id="LunarLander-v3",
    goal="Land softly between the flags.",
    instructions=f"You steer a lander. {_READ}horizontal and vertical position (the pad is at 0, 0), both velocities, "
    "angle, angular velocity, and 1 for each leg that touches the ground. Rest on the pad gives 100 to 140, a crash "
    "costs 100, engines cost fuel.",
    actions=("do nothing", "fire left engine", "fire main engine", "fire right engine"),
    numbers=8,
    max_steps=1000,
    threshold=200.0,
    random_return=-185.0,
)

ACROBOT = Game(
    name="acrobot",
    id="Acrobot-v1",
    goal="Swing the free end of the two links above the line in as few steps as possible.",
    instructions=f"You turn the joint between two links that hang from a fixed point. {_READ}cosine and sine of the "
    "first link's angle (0 hangs down), cosine and sine of the second's to the first, and both angular velocities. "
    "Every step costs 1 until the free end is above the line.",
    actions=("torque -1", "torque 0", "torque +1"),
    numbers=6,
    max_steps=500,
    threshold=-100.0,
    random_return=-497.0,
)

GAMES = {game.name: game for game in (CART_POLE, ACROBOT, LUNAR_LANDER)}
