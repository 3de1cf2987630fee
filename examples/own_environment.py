"""Your own environment: three classes, and everything potstill does works with it.

    cd examples
    PYTHONPATH=. potstill envs check own_environment:DEPOT
    PYTHONPATH=. potstill distill context --env own_environment:DEPOT --split train \\
        --teacher expert --price-teacher-as gpt-4.1
    PYTHONPATH=. potstill run --env own_environment:DEPOT --split test --arm copy-nearest

In a package of yours, register ``DEPOT`` under the entry-point group ``potstill.environments`` to give it a short name.
"""

from collections.abc import Sequence

from potstill.envs.registry import EnvironmentPlugin
from potstill.errors import EnvError, TaskNotFound
from potstill.types import Action, Blob, Observation, Outcome, Task

PLACES = ("dock", "shelf", "yard")
THINGS = ("crate", "drum", "pallet", "sack")


class Depot:
    """A depot with three places; one thing must be brought from where it lies to where it belongs."""

    name = "depot"
    instructions = "You work in a depot. Bring the thing to its place. Answer with one action."
    max_steps = 12

    def reset(self, task: Task, seed: int) -> Observation:
        self._thing, self._lies, self._belongs = task.data["thing"], task.data["lies"], task.data["belongs"]
        self._here, self._carries, self._done = "gate", False, False
        return self._observe(f"Bring the {self._thing} to the {self._belongs}.")

    def step(self, action: Action) -> Observation:
        if self._done:
            raise EnvError("the episode is over: reset the environment first")
        text = action.text
        if text not in self._admissible():
            return self._observe(f"'{text}' cannot be done here.")
        if text.startswith("go to "):
            self._here = text.removeprefix("go to ")
        elif text.startswith("take "):
            self._carries = True
        else:
            self._lies, self._carries = self._here, False
            self._done = self._here == self._belongs
        return self._observe("Done." if self._done else "")

    def outcome(self) -> Outcome:
        return Outcome(success=self._done)

    def expert_action(self) -> Action | None:
        if self._done:
            return None
        if self._carries:
            text = f"put {self._thing}" if self._here == self._belongs else f"go to {self._belongs}"
        else:
            text = f"take {self._thing}" if self._here == self._lies else f"go to {self._lies}"
        return Action(text=text)

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)  # this environment shows no images

    def close(self) -> None:
        """Nothing to give back: no file, process or connection is open."""

    def _admissible(self) -> tuple[str, ...]:
        moves = [f"go to {place}" for place in PLACES if place != self._here]
        if self._carries:
            moves.append(f"put {self._thing}")
        elif self._here == self._lies:
            moves.append(f"take {self._thing}")
        return tuple(moves)

    def _observe(self, said: str) -> Observation:
        where = f"You are at the {self._here}."
        thing = f"You carry the {self._thing}." if self._carries else f"The {self._thing} lies at the {self._lies}."
        return Observation(
            text=" ".join(part for part in (said, where, thing) if part),
            admissible=() if self._done else self._admissible(),
            done=self._done,
            score=float(self._done),
        )


class DepotTasks:
    """Lists tasks without starting anything. Splits never share a task."""

    def splits(self) -> Sequence[str]:
        return ("train", "test")

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self.splits():
            raise TaskNotFound(f"The depot has no split '{split}'. Allowed: train, test.")
        things = THINGS[:-1] if split == "train" else THINGS[-1:]
        return [
            Task(
                id=f"{thing}-{lies}-{belongs}",
                environment="own_environment:DEPOT",
                goal=f"Bring the {thing} to the {belongs}.",
                split=split,
                data={"thing": thing, "lies": lies, "belongs": belongs},
            )
            for thing in things
            for lies in PLACES
            for belongs in PLACES
            if lies != belongs
        ]


DEPOT = EnvironmentPlugin(
    environment="own_environment:Depot", source="own_environment:DepotTasks", summary="A depot with three places."
)
