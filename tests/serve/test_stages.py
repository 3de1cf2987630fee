"""Rollout over processes: stages in rows, evidence from episodes, switches that act at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deciding_builders import Clock, FakeAsk, Rig, call, prompt, route, settings
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide import drift
from potstill.decide.assignment import Route as Served
from potstill.decide.evidence import Arm
from potstill.decide.rollout import RolloutPlan, RolloutState, Stage
from potstill.errors import ConfigError, StoreError, UnknownName
from potstill.serve.deciding.verdicts import Ending
from potstill.serve.rollout.rows import (
    BASELINE,
    Counts,
    Ended,
    Event,
    Shadowed,
    StageRow,
    begun,
    evidence,
    stepped,
    widened,
    with_events,
)
from potstill.serve.rollout.stages import MemoryState, Stages, plain
from potstill.serve.rollout.trust import trust_of
from potstill.serve.settings import Cascade, Mode

ROLLED = route(rollout=True, canary=(0.2, 0.5), allowed_loss=0.05, shadow_share=1.0)


# --- rows, pure -------------------------------------------------------------------------------------------------------


def seen(row: StageRow, acted: bool, agreed: bool, times: int = 1) -> StageRow:
    one = Shadowed(acted=acted, agreed=agreed, calibration=row.calibration, entered_at=row.rollout.entered_at)
    return with_events(row, [one] * times)


def test_the_monitor_starts_after_its_baseline_and_allows_what_that_showed() -> None:
    row = seen(begun(None, "c", 0.0), True, True, BASELINE - 10)
    row = seen(row, True, False, 9)
    assert row.monitor is None
    row = seen(row, True, False)
    assert row.monitor is not None
    # 10 of 200: the exact upper 95 % bound of a binomial share is 8.3 %
    assert row.monitor.plan.allowed_rate == pytest.approx(0.0833, abs=0.0005)
    assert row.monitor.n == 0


def test_drift_widens_the_threshold_and_then_takes_the_student_off() -> None:
    row = seen(seen(begun(None, "c", 0.0), True, False, 40), True, True, BASELINE - 40)
    assert widened(row, 0.6).threshold == 0.6
    verdicts = []
    while widened(row, 0.6).student_may_act:
        row = seen(row, True, len(verdicts) % 3 == 0)
        now = widened(row, 0.6)
        verdicts.append((now.verdict, now.threshold > 0.6))
    assert (drift.DriftVerdict.WATCH, True) in verdicts
    assert evidence(row, 1.0).drift is drift.DriftVerdict.ALARM


def test_decisions_at_which_the_student_would_not_act_move_no_monitor() -> None:
    row = seen(begun(None, "c", 0.0), False, False, BASELINE * 2)
    assert (row.monitor, row.counts.shadow_units, row.counts.shadow_losses) == (None, BASELINE * 2, 0)


def test_what_was_seen_in_an_earlier_stage_or_under_another_calibration_does_not_count() -> None:
    row = begun(None, "c", 0.0)
    row = msgspec.structs.replace(row, rollout=RolloutState(stage=Stage.CANARY, entered_at=50.0))
    old = Ended(served=Served.CASCADE, success=True, cost_usd=1.0, entered_at=0.0)
    assert with_events(row, [old]) == row
    other = Shadowed(acted=True, agreed=False, calibration="d", entered_at=50.0)
    assert with_events(row, [other]) == row
    earlier = Shadowed(acted=True, agreed=False, calibration="c", entered_at=0.0)
    assert with_events(row, [earlier]).counts == Counts()
    assert with_events(row, [earlier]).acted == 1, "the drift monitor lives longer than a stage"


def test_episodes_count_for_their_arm_and_unknown_costs_make_no_sum() -> None:
    row = msgspec.structs.replace(begun(None, "c", 0.0), rollout=RolloutState(stage=Stage.CANARY, entered_at=5.0))
    events: list[Event] = [
        Ended(served=Served.CASCADE, success=True, cost_usd=0.25, entered_at=5.0),
        Ended(served=Served.CASCADE, success=False, cost_usd=0.5, entered_at=5.0),
        Ended(served=Served.SHADOW, success=True, cost_usd=2.0, entered_at=5.0),
        Ended(served=Served.TEACHER, success=True, cost_usd=1.0, entered_at=5.0),
    ]
    row = with_events(row, events)
    assert (row.counts.canary, row.counts.control) == (Arm(n=2, successes=1), Arm(n=2, successes=2))
    shown = evidence(row, 6.0)
    assert (shown.canary_usd, shown.control_usd) == (0.75, 3.0)
    unknown = with_events(row, [Ended(served=Served.CASCADE, success=True, cost_usd=None, entered_at=5.0)])
    assert evidence(unknown, 6.0).canary_usd is None


def test_a_new_calibration_begins_the_proof_again() -> None:
    row = seen(begun(None, "c", 0.0), True, False, 30)
    again = begun(row, "d", 99.0)
    assert (again.calibration, again.acted, again.counts) == ("d", 0, Counts())
    assert (again.rollout.stage, again.rollout.entered_at) == (Stage.SHADOW, 99.0)
    assert [change.what for change in again.changes] == ["begin", "recalibrated"]
    assert begun(again, "d", 100.0) is again


@given(
    st.lists(
        st.one_of(
            st.builds(
                Shadowed,
                acted=st.booleans(),
                agreed=st.booleans(),
                calibration=st.sampled_from(["c", "d"]),
                entered_at=st.sampled_from([0.0, 1.0]),
            ),
            st.builds(
                Ended,
                served=st.sampled_from(list(Served)),
                success=st.booleans(),
                cost_usd=st.none() | st.floats(0, 10),
                entered_at=st.sampled_from([0.0, 1.0]),
            ),
        ),
        max_size=60,
    ),
    st.integers(0, 60),
)
def test_counts_are_the_same_however_events_are_batched_and_rows_survive_json(events: list[Event], cut: int) -> None:
    row = StageRow(calibration="c", rollout=RolloutState(stage=Stage.CANARY, entered_at=1.0))
    whole = with_events(row, events)
    half = msgspec.convert(plain(with_events(row, events[:cut])), StageRow)
    assert with_events(half, events[cut:]) == whole
    ended = [one for one in events if isinstance(one, Ended) and one.entered_at == 1.0]
    assert whole.counts.canary.n + whole.counts.control.n == len(ended)
    assert whole.acted == sum(isinstance(one, Shadowed) and one.acted and one.calibration == "c" for one in events)


def test_the_same_finding_is_not_told_anew_at_every_look() -> None:
    plan = RolloutPlan(allowed_loss=0.05)
    row = stepped(begun(None, "c", 0.0), plan, 1.0)
    assert row.reason == "too-soon"
    assert stepped(row, plan, 2.0) == row


# --- over processes ---------------------------------------------------------------------------------------------------


def stages(store: Any, clock: Clock, **fields: Any) -> Stages:
    one = msgspec.structs.replace(ROLLED, **fields)
    return Stages({"auto": trust_of(one, settings(one))}, store, clock)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryState()
        return
    from potstill.trajectories.store import Store

    with Store.open(tmp_path / "state.db") as opened:
        yield opened


async def test_two_processes_on_one_store_count_as_one(store: Any) -> None:
    clock = Clock()
    first, second = stages(store, clock), stages(store, clock)
    await first.refresh(60)
    await second.refresh(60)
    for number in range(60):
        (first if number % 3 else second).shadowed("auto", acted=True, agreed=number % 10 != 0)
        if number % 7 == 0:
            await first.tick()
        if number % 11 == 0:
            await second.tick()
    await first.tick()
    await second.tick()
    await first.refresh(60)
    assert first.row("auto") == second.row("auto")
    assert (first.row("auto").counts.shadow_units, first.row("auto").counts.shadow_losses) == (60, 6)


async def test_the_kill_switch_of_one_process_acts_in_the_other(store: Any) -> None:
    clock = Clock()
    first, second = stages(store, clock, rollout=False), stages(store, clock, rollout=False)
    await first.refresh(60)
    await second.refresh(60)
    assert second.assigned("auto", "e").served is Served.CASCADE
    await first.kill_all(by="ann")
    assert first.assigned("auto", "e").label == "killed/teacher"
    assert second.assigned("auto", "e").served is Served.CASCADE
    await second.tick()
    assert second.assigned("auto", "e").label == "killed/teacher"
    assert second.switch.by == "ann"
    await second.kill_all(killed=False)
    await first.tick()
    assert first.assigned("auto", "e").served is Served.CASCADE


async def test_the_kill_switch_counts_at_once_where_the_store_is_away_and_is_written_later(
    store: Any, monkeypatch
) -> None:
    clock = Clock()
    first, second = stages(store, clock, rollout=False), stages(store, clock, rollout=False)
    await first.refresh(60)
    await second.refresh(60)

    def away(*_told: Any) -> Any:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(store, "put_state", away)
        switch = await first.kill_all(by="ann")
        assert (switch.killed, first.unwritten) == (True, True)
        assert first.assigned("auto", "e").label == "killed/teacher"
        assert await first.refresh(60)
        assert first.assigned("auto", "e").label == "killed/teacher"
        with pytest.raises(StoreError, match="try again"):
            await first.kill_all(killed=False)
        assert first.switch.killed
        assert not await first.tick()
    assert await first.tick()
    assert not first.unwritten
    await second.tick()
    assert second.assigned("auto", "e").label == "killed/teacher"
    await second.kill_all(killed=False)
    await first.tick()
    assert first.assigned("auto", "e").served is Served.CASCADE


async def test_acts_on_one_route_are_kept_and_refused_where_they_make_no_sense(store: Any) -> None:
    clock = Clock()
    one = stages(store, clock)
    await one.refresh(60)
    row = await one.act("auto", "freeze", by="ann")
    assert (row.rollout.stage, row.rollout.held) == (Stage.FROZEN, Stage.SHADOW)
    with pytest.raises(ConfigError, match="Cannot freeze a rollout that is frozen"):
        await one.act("auto", "freeze")
    await one.act("auto", "unfreeze")
    await one.act("auto", "kill")
    other = stages(store, clock)
    await other.refresh(60)
    assert other.assigned("auto", "e").label == "killed/teacher"
    row = await other.act("auto", "release")
    assert row.rollout.stage is Stage.SHADOW
    assert [change.what for change in row.changes] == ["begin", "freeze", "unfreeze", "kill", "release"]
    with pytest.raises(UnknownName, match="freez"):
        await one.act("auto", "freez")
    with pytest.raises(UnknownName, match="route"):
        await one.act("nothing", "kill")


async def test_of_two_calibrations_the_one_that_started_later_is_served(store: Any) -> None:
    clock = Clock()
    old = stages(store, clock, rollout=False)
    await old.refresh(60)
    new = stages(store, clock, rollout=False, cascade=Cascade(samples=5))
    await new.refresh(60)
    await old.tick()
    await new.tick()
    assert new.assigned("auto", "e").served is Served.CASCADE
    found = old.assigned("auto", "e")
    assert found.served is Served.TEACHER
    assert "another calibration" in found.note


async def test_a_ladder_that_became_shorter_holds_the_last_rung(store: Any) -> None:
    clock = Clock()
    one = stages(store, clock, canary=(0.1, 0.2, 0.3))
    await one.refresh(60)
    high = RolloutState(stage=Stage.CANARY, rung=2, entered_at=clock.now)
    found = store.get_state("rollout", "auto")
    assert store.put_state("rollout", "auto", plain(msgspec.structs.replace(one.row("auto"), rollout=high)), found[0])
    short = stages(store, clock, canary=(0.1,))
    assert await short.tick()
    assert short.row("auto").rollout.rung == 0
    assert short.assigned("auto", "e").stage is Stage.CANARY


async def test_observations_wait_for_a_store_that_is_away() -> None:
    class Away(MemoryState):
        away = False

        def put_state(self, kind: str, key: str, value: Any, expected_version: int) -> bool:
            if self.away:
                raise OSError("disk gone")
            return super().put_state(kind, key, value, expected_version)

    store = Away()
    one = stages(store, Clock())
    await one.refresh(60)
    one.shadowed("auto", acted=True, agreed=True)
    store.away = True
    assert await one.tick() is False
    one.shadowed("auto", acted=True, agreed=True)
    store.away = False
    assert await one.tick()
    assert one.row("auto").acted == 2


# --- a whole rollout --------------------------------------------------------------------------------------------------


class Simulation:
    """Two gateways on one store, episodes of one request each, outcomes by whoever served them."""

    def __init__(self) -> None:
        self.clock, store = Clock(), MemoryState()
        self.rng = random.Random(7)
        self.rigs = [
            Rig(FakeAsk(call("look")), ROLLED, store=store, clock=self.clock, settings=settings(ROLLED))
            for _ in range(2)
        ]
        self.number = 0
        self.served: list[Served] = []

    async def day(self, episodes: int, success: dict[Served, float], agree: float = 1.0) -> list[str]:
        """Serve episodes over five hours; returns the stages that were seen."""
        labels = []
        for _ in range(episodes):
            self.number += 1
            self.clock.now += 18_000 / episodes
            rig = self.rigs[self.number % 2]
            episode = f"episode-{self.number}"
            decided = await rig.decide(episode=episode)
            served = Served(decided.stage.rpartition("/")[2])
            labels.append(decided.stage.partition("/")[0])
            self.served.append(served)
            teacher = call("look") if self.rng.random() < agree else call(city="Oslo")
            if decided.answer is None:
                rig.finish(decided, prompt(), teacher, episode, request_id=episode)
            won = self.rng.random() < success.get(served, success[Served.SHADOW])
            cost = 0.1 if served is Served.CASCADE else 1.0
            await rig.verdicts.count("default", episode, Ending("auto", decided.stage, self.clock.now, won, cost))
            if self.number % 25 == 0:
                await self.look()
        return labels

    async def look(self) -> None:
        for rig in self.rigs:
            while len(rig.recorded) < rig.decider.shadowing.queue.counts["offered"]:
                import asyncio

                await asyncio.sleep(0)
            await rig.decider.stages.tick()

    @property
    def row(self) -> StageRow:
        return self.rigs[0].decider.stages.row("auto")


async def test_a_rollout_goes_from_shadow_to_live_and_steps_back_when_the_canary_fails() -> None:
    run = Simulation()
    good = {Served.SHADOW: 0.99, Served.CASCADE: 0.99}
    labels = await run.day(300, good)
    assert labels[0] == "shadow"
    assert run.row.rollout.stage is Stage.CANARY
    labels = []
    while run.row.rollout.stage is not Stage.LIVE and run.number < 12_000:
        labels += await run.day(200, good)
    assert run.row.rollout.stage is Stage.LIVE
    assert set(labels) <= {"canary", "live"}
    assert [change.what for change in run.row.changes] == ["begin", "advance", "advance", "advance"]
    run.served.clear()
    await run.day(200, good)
    assert run.served.count(Served.CASCADE) > 180, "nearly everything is the cascade's"
    assert run.rigs[0].decider.stages.row("auto").rollout == run.rigs[1].decider.stages.row("auto").rollout
    bad = {Served.SHADOW: 0.9, Served.CASCADE: 0.3}
    while run.row.rollout.stage is Stage.LIVE and run.number < 20_000:
        await run.day(200, bad)
    assert run.row.rollout.stage is Stage.CANARY
    assert run.row.changes[-1].what == "step-back"
    assert "succeeds less often" in run.row.changes[-1].sentence


async def test_drift_takes_the_student_off_until_it_is_calibrated_again() -> None:
    run = Simulation()
    good = {Served.SHADOW: 0.9, Served.CASCADE: 0.9}
    await run.day(300, good)
    assert run.row.rollout.stage is Stage.CANARY
    while run.row.rollout.stage is not Stage.SHADOW and run.number < 2_000:
        await run.day(100, good, agree=0.2)
    assert (run.row.rollout.stage, run.row.rollout.needs_calibration) == (Stage.SHADOW, True)
    run.served.clear()
    await run.day(200, good)
    assert set(run.served) == {Served.SHADOW}
    await run.rigs[1].decider.stages.act("auto", "recalibrated")
    await run.day(300, good)
    assert run.row.rollout.stage is Stage.CANARY


async def test_an_episode_keeps_its_side_while_the_share_grows_and_leaves_it_when_killed() -> None:
    run = Simulation()
    await run.day(300, {Served.SHADOW: 0.9, Served.CASCADE: 0.9})
    rig = run.rigs[0]
    names = [f"long-{number}" for number in range(60)]
    first = {name: (await rig.decide(episode=name)).stage for name in names}
    assert set(first.values()) == {"canary/cascade", "canary/shadow"}
    state = msgspec.structs.replace(run.row.rollout, rung=1)
    row = msgspec.structs.replace(run.row, rollout=state)
    found = rig.store.get_state("rollout", "auto")
    assert found is not None
    assert rig.store.put_state("rollout", "auto", plain(row), found[0])
    await rig.decider.stages.refresh(60)
    assert {name: (await rig.decide(episode=name)).stage for name in names} == first
    await rig.decider.stages.kill_all()
    assert {(await rig.decide(episode=name)).stage for name in names} == {"killed/teacher"}


# --- settings that cannot be served -----------------------------------------------------------------------------------


def calibration(tmp_path: Path, **fields: Any) -> str:
    told = {
        "certified": True,
        "keep": 0.95,
        "threshold": 0.6,
        "samples": 5,
        "escalation_share": 0.3,
        "n": 200,
        "n_teacher_success": 150.0,
        "signal": "votes",
        "student": "gpt-5-nano",
        "reason": "Proven.",
        "recommendation": "cascade",
        "candidates": [{"anything": 1}],
        **fields,
    }
    path = tmp_path / "calibration.json"
    path.write_bytes(msgspec.json.encode(told))
    return str(path)


def trusted(path: str, **cascade: Any) -> Any:
    one = route(cascade=Cascade(calibration=path, **cascade))
    return trust_of(one, settings(one))


def test_a_calibration_gives_samples_threshold_and_allowed_loss(tmp_path: Path) -> None:
    trust = trusted(calibration(tmp_path))
    assert (trust.policy.samples, trust.policy.threshold) == (5, 0.6)
    assert trust.plan.allowed_loss == pytest.approx(0.05 * 150 / 200)
    assert trust.escalation == 0.3
    assert trust.warnings == ()


def test_an_uncertified_calibration_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    path = calibration(tmp_path, certified=False, threshold=None, samples=None, reason="30 more labels are needed.")
    with pytest.raises(ConfigError, match=r"30 more labels are needed\..*allow_uncertified"):
        trusted(path)
    trust = trusted(path, allow_uncertified=True)
    assert (trust.policy.samples, trust.policy.threshold) == (3, 1.0)
    assert "certifies nothing" in trust.warnings[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"signal": "learned"}, "--score votes"), ({"certified": "yes"}, "is none"), ({"keep": None}, "is none")],
)
def test_a_calibration_that_cannot_be_served_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        trusted(calibration(tmp_path, **change))


def test_a_missing_calibration_is_named() -> None:
    with pytest.raises(ConfigError, match="No such file"):
        trusted("/nowhere/calibration.json")


def test_another_student_or_a_losing_cascade_is_warned_of(tmp_path: Path) -> None:
    told = trusted(calibration(tmp_path, student="llama-8b", recommendation="teacher")).warnings
    assert any("'llama-8b' was calibrated" in text for text in told)
    assert any("Proven." in text for text in told)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (route(cascade=Cascade(mode="restart")), "cannot set a client's environment back"),
        (route(cascade=Cascade(mode="stiky")), "sticky"),
        (route(cascade=Cascade(rule="jsn")), "json"),
        (route(cascade=Cascade(samples=0)), "samples is 0"),
        (route(canary=(0.5, 0.2)), "does not rise"),
        (msgspec.structs.replace(route(), student=None), "no student"),
        (msgspec.structs.replace(route(), student="smal"), "small"),
        (route(mode=Mode.SHADOW, allowed_loss=0.0), "allowed_loss"),
    ],
    ids=str,
)
def test_a_route_that_cannot_be_served_is_refused_at_start(one: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        trust_of(one, settings(one))


def test_the_guides_settings_are_taken(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import re
    import tomllib

    from potstill import plugins
    from potstill.serve import settings_file

    guide = (repository / "docs" / "guides" / "rollout.md").read_text(encoding="utf-8")
    block, plugin = re.findall(r"```toml\n(.*?)```", guide, flags=re.DOTALL)
    assert f'entry-points."{plugins.GROUPS["checker"]}"' in plugin
    tables = tomllib.loads(block)
    tables["upstreams"] = {"u": {"base_url": "http://127.0.0.1:9/v1"}}
    tables["models"] = {name: {"upstream": "u", "model": name} for name in ("big", "small")}
    calibration(tmp_path)
    monkeypatch.chdir(tmp_path)
    told = settings_file.parse(tables, "the guide")
    trust = trust_of(told.routes[0], told)
    assert (trust.policy.samples, trust.plan.ladder, trust.route.context.k) == (5, (0.05, 0.2, 0.5), 2)
