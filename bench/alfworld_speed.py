"""How fast ALFWorld is here and with the stock classes, whether both show the same bytes, and how good its experts are.

    python bench/alfworld_speed.py DIR [--games 10] [--episodes 40]

DIR holds ``valid_seen`` with ALFWorld's games. CPU seconds of one process; stock and fast games are
loaded and stepped in turn, so that a busy machine slows both. It tests nothing; tests/envs does.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import _results
from potstill.envs.alfworld.environment import AlfworldEnvironment
from potstill.envs.alfworld.game import FastGame, Frame, Game, StockGame
from potstill.envs.alfworld.gamefile import GameFile, read_game
from potstill.envs.alfworld.tasks import AlfworldTasks, game_path, games_root
from potstill.types import Action, Task

SPLIT = "valid_seen"
RANDOM_STEPS = 20
MAX_STEPS = 50
STRAYS = (0, 5, 10)
MEMORY_GAMES = 500


def cpu_s(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    value = call()
    return time.process_time() - start, value


def start(game: Game, file: GameFile) -> Frame:
    game.load(file)
    return game.reset()


def speed(directory: Path, tasks: list[Task], cache: Path) -> list[dict[str, Any]]:
    """Loads and steps, cold (empty cache), warm (translations on disk) and stock."""
    root = games_root(directory)
    files = [read_game(game_path(root, task)) for task in tasks]
    stock = StockGame()
    load_s: dict[str, list[float]] = {"cold": [], "fast": [], "stock": []}
    step_s: dict[str, list[float]] = {"fast": [], "stock": []}
    compared = different = 0
    start(FastGame(cache / "import"), files[0])  # imports and the shared grammar, once a process
    for task, file in zip(tasks, files, strict=True):
        load_s["cold"].append(cpu_s(lambda file=file: start(FastGame(cache), file))[0])
        fast = FastGame(cache)
        seconds, frame = cpu_s(lambda file=file, fast=fast: start(fast, file))
        load_s["fast"].append(seconds)
        seconds, stock_frame = cpu_s(lambda file=file: start(stock, file))
        load_s["stock"].append(seconds)
        generator = random.Random(task.id)
        for step in range(RANDOM_STEPS + 1):
            compared += 1
            different += frame != stock_frame or fast.facts() != stock.facts()
            if step == RANDOM_STEPS:
                break
            command = generator.choice(frame.admissible)
            seconds, frame = cpu_s(lambda fast=fast, command=command: fast.step(command))
            step_s["fast"].append(seconds)
            seconds, stock_frame = cpu_s(lambda command=command: stock.step(command))
            step_s["stock"].append(seconds)
        fast.close()
    load = {name: statistics.median(values) for name, values in load_s.items()}
    step = {name: statistics.median(values) for name, values in step_s.items()}
    mean = {name: statistics.mean(values) for name, values in step_s.items()}
    return [
        {"what": "load and reset, stock", "median_s": load["stock"]},
        {"what": "load and reset, first time", "median_s": load["cold"], "times_faster": load["stock"] / load["cold"]},
        {"what": "load and reset, warm", "median_s": load["fast"], "times_faster": load["stock"] / load["fast"]},
        {"what": "step, stock", "median_s": step["stock"], "steps_per_s": 1 / mean["stock"]},
        {
            "what": "step, fast",
            "median_s": step["fast"],
            "steps_per_s": 1 / mean["fast"],
            "times_faster": mean["stock"] / mean["fast"],
        },
        {"what": "frames compared with stock", "n": compared, "different": different},
    ]


def play(environment: AlfworldEnvironment, task: Task, strays: int) -> tuple[bool, int, str]:
    """Random steps, then the expert for at most MAX_STEPS: won, its steps, where its last action came from."""
    generator = random.Random(task.id)
    observation = environment.reset(task, 0)
    for _ in range(strays):
        if not observation.done:
            observation = environment.step(Action(text=generator.choice(observation.admissible or ())))
    for step in range(MAX_STEPS):
        action = None if observation.done else environment.expert_action()
        if action is None:
            return observation.done, step, environment.advice
        observation = environment.step(action)
    return observation.done, MAX_STEPS, environment.advice


def experts(directory: Path, tasks: list[Task], cache: Path) -> list[dict[str, Any]]:
    rows = []
    arms = {"handcoded": {}, "handcoded, not helped": {"replan": False}, "walkthrough": {"expert": "walkthrough"}}
    for name, options in arms.items():
        environment = AlfworldEnvironment(directory, cache_directory=cache, **options)
        for strays in STRAYS:
            seconds, episodes = cpu_s(
                lambda environment=environment, strays=strays: [play(environment, task, strays) for task in tasks]
            )
            won = [steps for done, steps, _ in episodes if done]
            rows.append(
                {
                    "what": f"expert {name}, after {strays} random steps",
                    "n": len(episodes),
                    "won_in_50": len(won),
                    "mean_steps_when_won": statistics.mean(won) if won else None,
                    "replanned_episodes": sum(source == "replanned" for *_, source in episodes),
                    "cpu_s_per_episode": seconds / len(episodes),
                }
            )
        environment.close()
    return rows


def memory(directory: Path, tasks: list[Task], cache: Path) -> dict[str, Any]:
    """Resident memory of one environment that plays 500 games."""
    environment = AlfworldEnvironment(directory, expert="walkthrough", cache_directory=cache)
    sizes = []
    for index in range(MEMORY_GAMES):
        play(environment, tasks[index % len(tasks)], 0)
        if index % 100 == 99:
            sizes.append(round(resident_mb(), 1))
    return {"what": "resident MB after 100, 200, ... games", "n": MEMORY_GAMES, "resident_mb": sizes}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--games", default=10, show_default=True, help="Games loaded and stepped both ways.")
@click.option("--episodes", default=40, show_default=True, help="Games that each expert plays.")
def main(directory: Path, games: int, episodes: int) -> None:
    tasks = list(AlfworldTasks(directory).tasks(SPLIT))
    shuffled = random.Random(0).sample(tasks, len(tasks))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        rows = speed(directory, shuffled[:games], cache)
        rows += experts(directory, shuffled[:episodes], cache)
        rows.append(memory(directory, tasks, cache))
    for row in rows:
        print(row)
    _results.write("alfworld_speed", rows, n=episodes, seeds=[0], extra={"games": games, "split": SPLIT})


if __name__ == "__main__":
    main()
