"""Does an agent get better, and no dearer, by its own episodes? Hidden house rules, learnt without any service.

The environment ``house-rules`` draws a house with ten rules for each of ``--rules-seeds``; give seeds that nobody has
tuned anything to. A scripted student plays; a scripted Reflector and Curator see its account and outcome and nothing of
the environment (``_scripted_roles``); everything between them is potstill's own: context, prompt, episode loop,
evidence, learning loop, gates, book. Arms:

- ``no playbook`` (also: before anything is learnt), ``static prompt`` (take every precaution at once), ``rules by
  hand`` (the true rules in the book: a perfect Reflector's), ``expert`` (who knows the rules, at the teacher's price);
- ``offline`` (two epochs), ``online`` (windows of 15, judged as it goes), ``sample`` (online, window of one), ``batch``
  (recorded episodes without a playbook, sixteen at once);
- ``offline`` with success or failure as the only feedback, with none (the learning gate keeps all in shadow), and with
  none where the agent believes itself (a wrong signal, so the gate lets it in);
- asymmetric roles (a sure teacher reflects) against the same weak model in all roles (``mistaken``: the share of its
  lessons and votes that are wrong), and a page that is put in order as seldom as by default (the others follow the
  book at once).

Success, steps, tokens and cost are those of test orders (``online``: of the orders as they came). Scripted roles are
given list prices by tokens estimated from their texts, nothing from a cache. Intervals are 95 %, clustered by house.

    python bench/playbook_learning.py [--rules-seeds 101,102,...] [--arms "offline;online"] [--test 40]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import _results
from _scripted_roles import InductiveCurator, InductiveReflector
from _scripted_student import student
from _scripted_world import (
    FRESH,
    STUDENT_AS,
    TEACHER_AS,
    Frozen,
    Player,
    Prices,
    calls_of,
    careful_hint,
    prices_of,
    true_notes,
    written_by_hand,
)
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.context import PlaybookConfig
from potstill.distill.playbook.learn.bill import Part
from potstill.distill.playbook.learn.contract import Recorded, Roles, Tasks, episode_id
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.result import Result
from potstill.distill.playbook.learn.settings import Mode, Settings
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.render import entry, in_order, render
from potstill.distill.playbook.roles.contract import Case, Signal
from potstill.distill.playbook.roles.evidence import case_of
from potstill.envs.house_rules.house import draw_house
from potstill.envs.registry import open_source
from potstill.measure.prices.table import PriceTable
from potstill.measure.statistics import paired_difference, ratio_interval, wilson_by_task
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.retrieval.tokens import EstimatedTokens
from potstill.trajectories import Store
from potstill.types import Answerer, Call, Struct, Task, Trajectory

RULES = 10
WINDOW = 15
Row = dict[str, Any]


class Arm(Struct, frozen=True, kw_only=True):
    """One way to learn. ``believes``: what its Reflector takes for the outcome where nobody says one."""

    name: str
    mode: Mode = Mode.OFFLINE
    epochs: int = 2
    feedback: str = "symptom"
    signal: Signal = Signal.EXECUTION
    blind: bool = False
    """The outcome is kept from the roles, who take all for well done."""
    mistaken: float = 0.0
    answerer: Answerer = Answerer.TEACHER
    recorded: bool = False
    config: PlaybookConfig = FRESH
    curve: bool = False
    """Judge it on the way, too."""


ARMS = (
    Arm(name="offline", curve=True),
    Arm(name="online", mode=Mode.ONLINE, epochs=1),
    Arm(name="sample", mode=Mode.SAMPLE, epochs=1),
    Arm(name="batch", mode=Mode.BATCH, epochs=1, recorded=True),
    Arm(name="offline, success or failure only", feedback="result", curve=True),
    Arm(name="offline, no feedback", feedback="none", signal=Signal.NONE, blind=True),
    Arm(name="offline, believes itself", feedback="none", blind=True),
    Arm(name="offline, 10 % mistaken", mistaken=0.1, answerer=Answerer.STUDENT),
    Arm(name="offline, 30 % mistaken", mistaken=0.3, answerer=Answerer.STUDENT),
    Arm(name="offline, 50 % mistaken", mistaken=0.5, answerer=Answerer.STUDENT),
    Arm(name="online, page by default", mode=Mode.ONLINE, epochs=1, config=PlaybookConfig(holdout_share=0.0)),
)


class Played(NamedTuple):
    """What is kept of an episode."""

    house: int
    success: bool
    steps: int
    input_tokens: int
    cost_usd: float


class Point(NamedTuple):
    """Episodes of one house at one point of an arm, and the book there."""

    arm: str
    point: str
    learnt: int
    """Episodes that had been learnt from."""
    episodes: tuple[Played, ...]
    bullets: int = 0
    page_tokens: int = 0


class Bench:
    """Plays all arms in one house after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        table = PriceTable.load()
        self.prices_date = table.date
        self._student, self._teacher = prices_of(STUDENT_AS, table), prices_of(TEACHER_AS, table)
        self._options = options
        self.points: list[Point] = []
        self.bills: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)

    async def house(self, house: int, folder: Path) -> None:
        source = open_source(
            "house-rules", rules_seed=house, rules=RULES, train=self._options.train, test=self._options.test
        )
        test, train = list(source.tasks("test")), list(source.tasks("train"))
        await self._unlearnt(house, test)
        for arm in ARMS:
            if self._options.arms is None or arm.name in self._options.arms:
                await self._learnt(arm, house, train, test, folder)

    async def _unlearnt(self, house: int, test: Sequence[Task]) -> None:
        hint = careful_hint(draw_house(house, RULES))
        by_hand = written_by_hand(true_notes(house, RULES))
        for feedback in ("symptom", "none"):
            silent = "" if feedback == "symptom" else ", silent house"
            ways: dict[str, Player] = {
                "no playbook": Player(student(house), feedback=feedback),
                "static prompt": Player(student(house), feedback=feedback, hint=hint),
                "rules by hand": Player(student(house), feedback=feedback, book=by_hand),
            }
            for name, player in ways.items():
                shown = by_hand.since(0).bullets if name == "rules by hand" else {}
                self._point(f"{name}{silent}", "any", 0, await self._played(player, house, test), shown)
        expert = Player(ExpertModel(EstimateCounter(), priced_as=TEACHER_AS))
        self._point("expert", "any", 0, await self._played(expert, house, test, self._teacher))

    # --- one arm ----------------------------------------------------------------------------------------------------

    async def _learnt(self, arm: Arm, house: int, train: Sequence[Task], test: Sequence[Task], folder: Path) -> None:
        with Store.open(folder / f"{house}-{ARMS.index(arm)}.db") as store:
            book = Playbook(store, "default", "rules")
            player = Player(student(house), book=book, feedback=arm.feedback, config=arm.config)
            tasks = [*train] if arm.mode in (Mode.OFFLINE, Mode.BATCH) else [*train, *_second_half(house, train)]
            settings = Settings(mode=arm.mode, epochs=arm.epochs, window=WINDOW, rounds=1, execution_stage=Stage.LIVE)
            episodes: Tasks | Recorded = Tasks(generator=player, tasks=tasks)
            if arm.recorded:
                episodes = Recorded(ids=await self._recorded(arm, house, tasks, store))
            result = await learn(book, episodes, self._roles(arm), settings, run="bench")
            self._bill(arm, result)
            for at, revision in self._checkpoints(arm, book, len(tasks)):
                bullets = book.as_of(revision)
                frozen = Player(student(house), book=Frozen(bullets), feedback=arm.feedback, config=FRESH)
                self._point(arm.name, f"after {at}", at, await self._played(frozen, house, test), bullets)
            if arm.mode in (Mode.ONLINE, Mode.SAMPLE):
                self._as_they_came(arm, house, store, len(tasks))

    def _roles(self, arm: Arm) -> Roles:
        copies = arm.feedback != "symptom"
        return Roles(
            reflector=InductiveReflector(successes=copies, mistaken=arm.mistaken, answerer=arm.answerer),
            curator=InductiveCurator(answerer=arm.answerer),
            case=lambda trajectory: _case(arm, trajectory),
            price=self._price,
        )

    def _price(self, call: Call) -> float:
        prices = self._teacher if call.answerer is Answerer.TEACHER else self._student
        return prices.of([call])

    async def _recorded(self, arm: Arm, house: int, tasks: Sequence[Task], store: Store) -> list[str]:
        """Episodes as a gateway would hold them: played without a book."""
        player = Player(student(house), feedback=arm.feedback)
        ids = []
        for place, task in enumerate(tasks):
            trajectory = await player.play(task, 0, reflection=None, tag=f"recorded/{house}/{place}")
            store.append(trajectory)
            ids.append(trajectory.id)
        return ids

    def _checkpoints(self, arm: Arm, book: Playbook, tasks: int) -> Iterator[tuple[int, int]]:
        """(episodes learnt from, revision of the book then), at a few points."""
        total = tasks * arm.epochs
        wanted = sorted({*self._options.points, total}) if arm.curve else [total]
        for at in wanted:
            if at < total:
                tag = f"default/rules/bench/play/{at // tasks}/{at % tasks}"
                use = book.store.get(episode_id(tag), namespace="default").playbook
                yield at, use.revision if use is not None else 0
            else:
                yield total, book.revision

    def _as_they_came(self, arm: Arm, house: int, store: Store, tasks: int) -> None:
        """The curve that an online learner is judged by: each window with the book before it."""
        for start in range(0, tasks, WINDOW):
            ids = [f"default/rules/bench/play/0/{at}" for at in range(start, min(start + WINDOW, tasks))]
            episodes = [store.get(episode_id(tag), namespace="default") for tag in ids]
            name, point = f"{arm.name}, as they came", f"episodes {start + 1} to {start + len(ids)}"
            self._point(name, point, start, tuple(self._kept(house, one, self._student) for one in episodes))

    # --- what is measured -------------------------------------------------------------------------------------------

    async def _played(
        self, player: Player, house: int, test: Sequence[Task], prices: Prices | None = None
    ) -> tuple[Played, ...]:
        """The test orders. Draws are the same for every arm and point."""
        done = []
        for place, task in enumerate(test):
            trajectory = await player.play(task, 0, reflection=None, tag=f"test/{house}/{place}")
            done.append(self._kept(house, trajectory, prices or self._student))
        return tuple(done)

    def _kept(self, house: int, trajectory: Trajectory, prices: Prices) -> Played:
        if trajectory.error is not None:
            raise SystemExit(f"An episode broke: {trajectory.error.kind}: {trajectory.error.message}")
        calls = calls_of(trajectory)
        tokens = sum(call.usage.input_tokens for call in calls if call.usage is not None)
        return Played(house, trajectory.succeeded, len(trajectory.steps), tokens, prices.of(calls))

    def _point(
        self,
        arm: str,
        point: str,
        learnt: int,
        episodes: tuple[Played, ...],
        bullets: Mapping[str, Bullet] | None = None,
    ) -> None:
        live = [one for one in (bullets or {}).values() if one.shown]
        tokens = EstimatedTokens().count(render([entry(one) for one in in_order(live)]))
        self.points.append(Point(arm, point, learnt, episodes, len(live), tokens))

    def _bill(self, arm: Arm, result: Result) -> None:
        if result.skipped or result.stopped != "done":
            raise SystemExit(f"{arm.name}: the run ended as {result.stopped}, with {len(result.skipped)} skipped.")
        spent = {part.value: sum(one.cost_usd for one in result.spent if one.part is part) for part in Part}
        written = {f"wrote {name}": float(count) for name, count in result.applied.items()}
        self.bills[arm.name].append({**spent, **written, "episodes": float(result.episodes)})


def _second_half(house: int, train: Sequence[Task]) -> Sequence[Task]:
    """As many orders again, so that an online run sees as many episodes as two epochs."""
    source = open_source("house-rules", rules_seed=house, rules=RULES, train=2 * len(train))
    return source.tasks("train")[len(train) :]


def _case(arm: Arm, trajectory: Trajectory) -> Case:
    if not arm.blind:
        return case_of(trajectory)
    case = case_of(msgspec.structs.replace(trajectory, outcome=None))
    return msgspec.structs.replace(case, signal=arm.signal, success=True)


# --- rows -----------------------------------------------------------------------------------------------------------


def rows_of(points: Sequence[Point]) -> Iterator[Row]:
    """A row for each arm and point, over all houses."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.arm, point.point), []).append(point)
    for (arm, point), held in groups.items():
        episodes = [one for each in held for one in each.episodes]
        by_house = _by_house(episodes)
        successes = [float(sum(one.success for one in each)) for each in by_house]
        costs = [sum(one.cost_usd for one in each) for each in by_house]
        per_success = ratio_interval(costs, successes) if len(by_house) > 1 else None
        yield {
            "arm": arm,
            "point": point,
            "learnt_from": held[0].learnt,
            "episodes": len(episodes),
            "houses": len(by_house),
            "success": _mean(one.success for one in episodes),
            "success_ci": wilson_by_task(successes, [float(len(each)) for each in by_house]),
            "steps": _mean(one.steps for one in episodes),
            "input_tokens": _mean(one.input_tokens for one in episodes),
            "cost_usd": _mean(one.cost_usd for one in episodes),
            "cost_per_success_usd": sum(costs) / sum(successes) if sum(successes) else None,
            "cost_per_success_ci": per_success,
            "bullets": _mean(each.bullets for each in held),
            "page_tokens": _mean(each.page_tokens for each in held),
        }


def differences_of(points: Sequence[Point]) -> Iterator[Row]:
    """The last point of each arm against no playbook, on the same orders of the same houses."""
    last = {point.arm: point.point for point in points if "as they came" not in point.arm}
    values = {arm: _pairs(points, arm, point) for arm, point in last.items()}
    for arm in last:
        silent = "silent" in arm or any(one.name == arm and one.feedback != "symptom" for one in ARMS)
        base = "no playbook, silent house" if silent else "no playbook"
        found = paired_difference(values[arm], values[base]) if arm != base else None
        if found is not None:
            yield {
                "of": f"{arm}, {last[arm]}",
                "against": base,
                "n": found.n,
                "difference": found.difference,
                "difference_ci": found.difference_ci,
            }


def _pairs(points: Sequence[Point], arm: str, point: str) -> dict[tuple[str, int], float]:
    chosen = [each for each in points if (each.arm, each.point) == (arm, point)]
    return {(str(one.house), place): float(one.success) for each in chosen for place, one in enumerate(each.episodes)}


def _by_house(episodes: Sequence[Played]) -> list[list[Played]]:
    held: defaultdict[int, list[Played]] = defaultdict(list)
    for one in episodes:
        held[one.house].append(one)
    return list(held.values())


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)


def bills_of(bills: Mapping[str, Sequence[Mapping[str, float]]], points: Sequence[Point]) -> list[Row]:
    """What learning cost, a house's mean: dollars by part, and operations written. And after how many episodes of the
    learnt student that is earned back, where it costs less than what it is compared with: the student without a
    playbook, for each order that is got out well, and the expert, for each order."""
    last = {row["arm"]: row for row in rows_of(points) if "as they came" not in row["arm"]}
    return [_bill_of(arm, held, last) for arm, held in bills.items()]


def _bill_of(arm: str, held: Sequence[Mapping[str, float]], last: Mapping[str, Row]) -> Row:
    names = dict.fromkeys(name for one in held for name in one)
    row: Row = {"arm": arm, **{name: _mean(one.get(name, 0.0) for one in held) for name in names}}
    row["learning_usd"] = sum(row[part.value] for part in Part)
    silent = any(one.name == arm and one.feedback != "symptom" for one in ARMS)
    before, after, expert = last["no playbook" + ", silent house" * silent], last[arm], last["expert"]
    row["successes_to_earn_it_back"] = _payback(row, before["cost_per_success_usd"], after["cost_per_success_usd"])
    row["episodes_to_earn_it_back_from_the_expert"] = _payback(row, expert["cost_usd"], after["cost_usd"])
    return row


def _payback(row: Row, before: float | None, after: float | None) -> float | None:
    """None: it never does."""
    if before is None or after is None or after >= before:
        return None
    return float(row["learning_usd"]) / (before - after)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules-seeds", type=numbers, default=list(range(12)), help="houses, with commas")
    parser.add_argument(
        "--arms", type=lambda text: text.split(";"), help="names of arms, with semicolons; default: all"
    )
    parser.add_argument("--train", type=int, default=60, help="orders to learn from")
    parser.add_argument("--test", type=int, default=40, help="orders to be judged by, in each house")
    parser.add_argument("--points", type=numbers, default=[15, 30, 60], help="episodes after which it is judged")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and keep none")
    options = parser.parse_args()
    bench, begun = Bench(options), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for house in options.rules_seeds:
            asyncio.run(bench.house(house, Path(folder)))
    rows = list(rows_of(bench.points))
    for row in rows:
        print({name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()})
    played = sum(len(point.episodes) for point in bench.points)
    extra = {
        "differences": list(differences_of(bench.points)),
        "learning": bills_of(bench.bills, bench.points),
        "rules": RULES,
        "priced_as": {"student": STUDENT_AS, "teacher": TEACHER_AS},
        "episodes_played": played,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(*extra["differences"], *extra["learning"], f"{played} episodes in {extra['seconds']} s", sep="\n")
    if not options.dry_run:
        seeds, n = options.rules_seeds, options.test * len(options.rules_seeds)
        _results.write("playbook_learning", rows, n=n, seeds=seeds, prices_date=bench.prices_date, extra=extra)


if __name__ == "__main__":
    main()
