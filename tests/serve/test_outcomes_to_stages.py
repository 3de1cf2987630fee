"""Outcomes reach the rollout: over HTTP, whoever served the episode, however late, and each episode once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deciding_builders import Clock, FakeAsk, Rig, call, route, settings
from gateway_process import ADMIN_KEY, GatewayProcess, begin_at
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.decide.assignment import Route as Served
from potstill.decide.assignment import assign
from potstill.decide.evidence import Arm
from potstill.decide.rollout import RolloutState, Stage
from potstill.measure.prices.table import PriceTable
from potstill.record.folding import fold_episode
from potstill.serve import settings_file
from potstill.serve.deciding.costs import Costs
from potstill.serve.deciding.episodes_held import key_of
from potstill.serve.deciding.verdicts import Ending, ending_of
from potstill.serve.rollout.rows import Corrected, Counts, Ended, StageRow, with_events
from potstill.serve.rollout.stages import MemoryState, plain
from potstill.serve.rollout.trust import trust_of
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.exchange import Upstream as Called
from potstill.types import Answerer, Outcome

TWO_HOURS_S = 7200.0
CONFIG = """
[gateway]
db = "{db}"
[limits]
idle_episode_s = {idle_s}
[upstreams]
far = {{ base_url = "{far}" }}
near = {{ base_url = "{near}", n_shares_prompt = true }}
[models]
big = {{ upstream = "far", model = "big-1", price_as = "gpt-5" }}
small = {{ upstream = "near", model = "small-1", price_as = "gpt-5-nano" }}
"""
ROUTE = """
[routes.{name}]
teacher = "big"
student = "small"
mode = "cascade"
shadow_share = 0.0
allowed_loss = 0.05
canary = [0.5]
[routes.{name}.cascade]
samples = 2
cache_aware = false
"""


def teacher(request: Request) -> Any:
    return reply(chat_answer("from the teacher"))


def student(request: Request) -> Any:
    answer = chat_answer("from the student")
    answer["choices"] = [{**answer["choices"][0], "index": index} for index in range(request.json.get("n", 1))]
    return reply(answer)


def config(tmp_path: Path, far: Upstream, near: Upstream, *routes: str, idle_s: float = 1800.0) -> Path:
    file = tmp_path / "gateway.toml"
    told = CONFIG.format(db=tmp_path / "gateway.db", far=far.url, near=near.url, idle_s=idle_s)
    file.write_text(told + "".join(ROUTE.format(name=name) for name in routes))
    return file


def canary(n: int, **fields: Any) -> StageRow:
    """A route that has been in canary for two hours, with ``n`` successes in either arm."""
    state = RolloutState(stage=Stage.CANARY, entered_at=time.time() - TWO_HOURS_S)
    arm = Arm(n=n, successes=n)
    counts = Counts(canary=arm, control=arm, canary_usd=0.001 * n, control_usd=0.1 * n)
    return StageRow(rollout=state, counts=counts, **fields)


def served(name: str, episode: str) -> Served:
    return assign(key_of("default", episode), Stage.CANARY, 0.5, name)


def named(name: str, wanted: Served, count: int) -> list[str]:
    """Episodes of a route that are served so."""
    names = (f"{name}-{number}" for number in range(100_000))
    found = (episode for episode in names if served(name, episode) is wanted)
    return [next(found) for _ in range(count)]


def play(gateway: GatewayProcess, route: str, each: int, success: dict[str, bool]) -> None:
    """Episodes of one request in either arm, then their outcomes by who answered."""
    arms = {"student": named(route, Served.CASCADE, each), "teacher": named(route, Served.SHADOW, each)}
    for who, episodes in arms.items():
        assert {gateway.episode(route, episode) for episode in episodes} == {who}
    for who, episodes in arms.items():
        for episode in episodes:
            gateway.outcome(episode, success[who])


def test_outcomes_move_a_running_gateway_through_its_stages(tmp_path: Path) -> None:
    good, bad = {"student": True, "teacher": True}, {"student": False, "teacher": True}
    with Upstream(teacher) as far, Upstream(student) as near:
        file = config(tmp_path, far, near, "rising", "falling", "held")
        begin_at(file, {"rising": canary(200), "falling": canary(0), "held": canary(200)})
        with GatewayProcess(file) as gateway:
            gateway.admin("POST", "routes/held/freeze")
            play(gateway, "rising", 7, good)
            play(gateway, "held", 7, good)
            play(gateway, "falling", 18, bad)

            rising = gateway.until("rising", lambda row: row["stage"] == "live")
            assert rising["stage"] == "live", rising
            assert [change["what"] for change in rising["changes"]] == ["advance"]
            falling = gateway.until("falling", lambda row: row["stage"] == "shadow")
            assert (falling["stage"], falling["step_backs"]) == ("shadow", 1), falling
            assert "succeeds less often" in falling["changes"][0]["sentence"]
            assert gateway.episode("falling", named("falling", Served.CASCADE, 19)[-1]) == "teacher"

            held = gateway.until("held", lambda row: row["counts"]["canary"].get("n") == 207)
            assert (held["stage"], held["serving"]) == ("frozen", "canary")
            assert held["counts"]["canary"] == held["counts"]["control"] == {"n": 207, "successes": 207}
            assert not held["counts"].get("unpriced")
            gateway.admin("POST", "routes/held/unfreeze")
            held = gateway.until("held", lambda row: row["stage"] == "live")
            assert held["stage"] == "live", held

            new = named("rising", Served.CASCADE, 9)[-2:]
            assert gateway.episode("rising", new[0]) == "student"
            gateway.admin("POST", "kill-switch", {"killed": True})
            assert [gateway.episode(route, f"{route}-killed") for route in ("rising", "held")] == ["teacher"] * 2
            assert gateway.episode("rising", new[0], "and then") == "teacher", "in mid-episode too"
            gateway.admin("POST", "kill-switch", {"killed": False})
            assert gateway.episode("rising", new[1]) == "student"

            recalibrated = gateway.admin("POST", "routes/falling/recalibrated", {"by": "ada"})["rollout"]
            assert (recalibrated["stage"], recalibrated["step_backs"]) == ("shadow", 0)
            assert recalibrated["changes"][0]["sentence"] == "recalibrated by ada."


def test_an_outcome_counts_once_however_late_it_comes_and_a_correction_replaces_it(start: Any, tmp_path: Path) -> None:
    """The gateway that served the episodes is gone, and they were folded before anybody said how they ended."""
    with Upstream(teacher) as far, Upstream(student) as near:
        file = config(tmp_path, far, near, "auto", idle_s=0.3)
        begin_at(file, {"auto": canary(0)})
        read = settings_file.read(file)
        mine, theirs = named("auto", Served.CASCADE, 1)[0], named("auto", Served.SHADOW, 1)[0]
        first = start(read, db=read.db, admin_key=ADMIN_KEY)
        for episode in (mine, theirs):
            for words in ("one", "two"):
                body = {"model": "auto", "messages": [{"role": "user", "content": words}]}
                assert first.post("/v1/chat/completions", body, x_potstill_episode=episode).status == 200
        first.server.stop()
        second = start(read, db=read.db, admin_key=ADMIN_KEY)
        admin = {"authorization": f"Bearer {ADMIN_KEY}"}

        def told(episode: str, success: bool | None) -> str:
            answered = second.post(f"/v1/episodes/{episode}/outcome", {"success": success})
            assert answered.status == 200, answered.body
            return str(answered.json["kept_in"])

        def counts(wanted: tuple[int, int, int, int]) -> Any:
            """Of canary and control, as soon as they are as wanted."""
            until = time.monotonic() + 120
            while True:
                row = second.get("/v1/potstill/routes", **admin).json["routes"][0]["rollout"]["counts"]
                arms = row["canary"], row["control"]
                found = tuple(arm.get(name, 0) for arm in arms for name in ("n", "successes"))
                if found == wanted or time.monotonic() > until:
                    assert found == wanted
                    return row
                time.sleep(0.05)

        until = time.monotonic() + 120
        while told(theirs, True) != "trajectory" and time.monotonic() < until:
            time.sleep(0.1)
        counts((0, 0, 1, 1))
        assert told(mine, True) == "trajectory"
        row = counts((1, 1, 1, 1))
        # gpt-5: 1.25 and 10 dollars per million; the teacher's answer twice, with 11 and 2 tokens
        usage = chat_answer("")["usage"]
        once = usage["prompt_tokens"] * 1.25e-6 + usage["completion_tokens"] * 10e-6
        assert row.get("control_usd", 0.0) == pytest.approx(2 * once)
        assert 0 < row.get("canary_usd", 0.0) < row.get("control_usd", 0.0)
        told(mine, True)
        told(mine, False)
        told(mine, False)
        counts((1, 0, 1, 1))
        told(theirs, None)
        row = counts((1, 0, 0, 0))
        assert row.get("control_usd", 0.0) == pytest.approx(0.0, abs=1e-12)
        told(theirs, False)
        counts((1, 0, 1, 0))
        labelled = second.post(f"/v1/potstill/episodes/default/{mine}/outcome", {"success": True}, **admin)
        assert labelled.status == 200
        counts((1, 1, 1, 0))


def test_a_correction_moves_what_was_counted() -> None:
    row = canary(10)
    entered_at = row.rollout.entered_at
    ended = Ended(served=Served.CASCADE, success=True, cost_usd=0.5, entered_at=entered_at)
    wrong = Corrected(served=Served.CASCADE, was=True, success=False, cost_usd=0.5, entered_at=entered_at)
    back = Corrected(served=Served.CASCADE, was=False, success=None, cost_usd=0.5, entered_at=entered_at)
    assert with_events(row, [ended, wrong]).counts.canary == Arm(n=11, successes=10)
    after = with_events(row, [ended, wrong, back]).counts
    assert (after.canary, after.canary_usd) == (row.counts.canary, pytest.approx(row.counts.canary_usd))
    old = Corrected(served=Served.CASCADE, was=True, success=False, cost_usd=0.5, entered_at=1.0)
    assert with_events(row, [old]) == row
    lost = Corrected(served=Served.CASCADE, was=True, success=None, cost_usd=None, entered_at=entered_at)
    assert with_events(canary(0), [lost]).counts.canary == Arm()


# --- whoever is told, and wherever the episode is by then -------------------------------------------------------------


@pytest.mark.slow
def test_an_outcome_told_to_another_gateway_counts_though_the_one_that_served_was_killed(tmp_path: Path) -> None:
    with Upstream(teacher) as far, Upstream(student) as near:
        file = config(tmp_path, far, near, "auto")
        begin_at(file, {"auto": canary(0)})
        episode = named("auto", Served.CASCADE, 1)[0]
        first = GatewayProcess(file)
        with GatewayProcess(file) as second:
            assert first.episode("auto", episode) == "student"
            end = time.monotonic() + 120
            while first.ask("GET", "/v1/potstill/acknowledged")[0]["waiting"] and time.monotonic() < end:
                time.sleep(0.02)
            first.kill()
            for _ in range(3):
                second.outcome(episode, True)
            row = second.until("auto", lambda row: row["counts"]["canary"].get("n", 0) >= 1)
            second.outcome(episode, True)
        assert row["counts"]["canary"] == {"n": 1, "successes": 1}
        with GatewayProcess(file) as third:
            assert third.rollout("auto")["counts"]["canary"] == {"n": 1, "successes": 1}


async def test_gateways_that_are_told_at_the_same_time_count_an_episode_once() -> None:
    rows, clock = MemoryState(), Clock()
    entered = clock.now - 100.0
    row = StageRow(rollout=RolloutState(stage=Stage.CANARY, entered_at=entered))
    rolled = route(rollout=True)
    told = trust_of(rolled, settings(rolled))
    rows.put_state("rollout", "auto", plain(msgspec.structs.replace(row, calibration=told.calibration)), 0)
    rigs = [Rig(FakeAsk(call("look")), rolled, store=rows, clock=clock) for _ in range(3)]
    for rig in rigs:
        await rig.decider.stages.refresh(60)
    ending = Ending("auto", "canary/cascade", clock.now, True, 0.5)
    await asyncio.gather(*(rig.verdicts.count("default", "e", ending) for rig in rigs for _ in range(4)))
    wrong = ending._replace(success=False)
    await asyncio.gather(*(rig.verdicts.count("default", "e", wrong) for rig in rigs))
    other = [rig.verdicts.count("acme", "e", ending) for rig in rigs]
    assert all(await asyncio.gather(*other)), "another tenant's episode of that name is another one"
    for rig in rigs:
        await rig.decider.stages.tick()
    await rigs[0].decider.stages.refresh(60)
    counts = rigs[0].decider.stages.row("auto").counts
    assert (counts.canary, counts.canary_usd) == (Arm(n=2, successes=1), 1.0)
    for stage in ("killed/teacher", "off/teacher", "shadow/shadow", "live/cascade", "", "canary/nonsense"):
        assert not await rigs[0].verdicts.count("default", f"no-{stage}", ending._replace(stage=stage)), stage
    assert not await rigs[0].verdicts.count("default", "old", ending._replace(began_at=entered - 1.0))
    assert not await rigs[0].verdicts.count("default", "gone", ending._replace(route="of another file"))


def test_an_episode_costs_the_same_in_the_journal_folded_and_half_folded(tmp_path: Path) -> None:
    """Its student's samples, its teacher's answers, without what was asked beside them."""
    prices = PriceTable.load(
        prices={"models": {"m": {"input": 10.0, "output": 0.0}, "s": {"input": 1.0, "output": 0.0}}}
    )
    costs = Costs(prices, {})

    def exchange(number: int, answerer: Answerer, *, beside: bool = False) -> Exchange:
        name = "m" if answerer is Answerer.TEACHER else "s"
        billed = Called(
            model=name,
            upstream="u",
            answerer=answerer,
            dialect="openai-chat",
            raw_usage={"prompt_tokens": 1000, "completion_tokens": 5},
            status=200,
            shadow=beside,
        )
        turns: list[dict[str, str]] = []
        for turn in range(number):
            turns += [{"role": "user", "content": f"go {turn}"}, {"role": "assistant", "content": f"done {turn}"}]
        asked = {"model": "auto", "messages": [*turns, {"role": "user", "content": f"go {number}"}]}
        return Exchange(
            namespace="acme",
            episode_id="e",
            route="auto",
            dialect="openai-chat",
            started_at=1000.0 + number,
            request=b"" if beside else msgspec.json.encode(asked),
            response=b"" if beside else msgspec.json.encode(chat_answer(f"done {number}")),
            stage="canary/shadow",
            request_id="" if beside else f"r-{number}",
            calls=(billed,),
            metadata={"shadow_of": f"r-{number}", "acted": True, "agreed": True} if beside else {},
        )

    with Store.open(tmp_path / "g.db") as store:
        assert ending_of(store, costs, "acme", "e") is None
        store.record([exchange(0, Answerer.TEACHER), exchange(0, Answerer.STUDENT, beside=True)])
        assert ending_of(store, costs, "acme", "e") is None, "nobody said how it ended"
        store.set_episode_outcome("acme", "e", Outcome(success=True))
        running = ending_of(store, costs, "acme", "e")
        assert running == Ending("auto", "canary/shadow", 1000.0, True, pytest.approx(0.01))
        fold_episode(store, "acme", "e")
        assert ending_of(store, costs, "acme", "e") == running
        store.record([exchange(1, Answerer.TEACHER), exchange(1, Answerer.STUDENT, beside=True)])
        store.set_episode_outcome("acme", "e", Outcome(success=False))
        half = ending_of(store, costs, "acme", "e")
        assert half == Ending("auto", "canary/shadow", 1000.0, False, pytest.approx(0.02))
        fold_episode(store, "acme", "e")
        assert ending_of(store, costs, "acme", "e") == half
        assert ending_of(store, costs, "other", "e") is None
