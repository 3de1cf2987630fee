import asyncio

import msgspec
import pytest
from test_context_library import EGG, MUG, ask, episode

from potstill.distill.context.config import ContextConfig, Mode
from potstill.distill.context.context import NoContext, RandomDemonstrations, RetrievedDemonstrations
from potstill.distill.context.library import build_library
from potstill.errors import ConfigError
from potstill.protocols import Context

TAUGHT = [episode("mug", "get a mug", MUG), episode("egg", "get an egg", EGG)]
TAUGHT += [episode(f"x{i}", f"find thing {i}", [(f"room {i}", f"go {i}"), ("there", "take it")]) for i in range(20)]


def shown(block):
    return [(ref.trajectory_id, ref.start, ref.stop) for ref in block.demonstrations]


@pytest.mark.parametrize("cls", [RetrievedDemonstrations, RandomDemonstrations])
def test_they_are_contexts(cls):
    context: Context = cls(build_library(TAUGHT, ContextConfig()))
    assert context.name


async def test_per_task_shows_whole_episodes_once():
    context = RetrievedDemonstrations(build_library(TAUGHT, ContextConfig(k=1, mode=Mode.PER_TASK)))
    block = await context.for_task(ask("get a mug"))
    assert shown(block) == [("mug", 0, 3)]
    assert block.text.startswith("Example 1\ngoal: get a mug\nobservation: a room\naction: go to shelf 1")
    assert await context.for_step(ask("get a mug", observation="a room")) == await NoContext().for_task(ask("x"))


async def test_per_step_shows_the_window_of_the_state():
    context = RetrievedDemonstrations(build_library(TAUGHT, ContextConfig(k=1, window=0, mode=Mode.PER_STEP)))
    assert (await context.for_task(ask("get an egg"))).text == ""
    block = await context.for_step(ask("get an egg", observation="the fridge is closed", history=("go to fridge 1",)))
    assert shown(block) == [("egg", 1, 2)]


async def test_hybrid_refreshes_only_where_the_frozen_ones_are_poor():
    config = ContextConfig(k=1, window=0, mode=Mode.HYBRID, refresh_below=0.6, weights={"observation": 9})
    context = RetrievedDemonstrations(build_library(TAUGHT, config))
    assert shown(await context.for_task(ask("get a mug", observation="room 7"))) == [("mug", 0, 3)]
    assert (await context.for_step(ask("get a mug", observation="on the shelf you see a mug"))).text == ""
    fresh = await context.for_step(ask("get a mug", observation="the fridge is closed", history=("go to fridge 1",)))
    assert shown(fresh) == [("egg", 1, 2)]
    assert (await context.for_step(ask("get a mug", observation="you hold a mug"))).text == ""
    never = RetrievedDemonstrations(build_library(TAUGHT, config), msgspec.structs.replace(config, refresh_below=0))
    assert (await never.for_step(ask("get a mug", observation="the fridge is closed"))).text == ""


async def test_random_is_the_same_for_the_same_task_and_seed_and_never_its_own():
    library = build_library(TAUGHT, ContextConfig(k=3))
    first, again, other = (RandomDemonstrations(library, seed=seed) for seed in (1, 1, 2))
    blocks = [await context.for_task(ask("find thing 3", task="x3")) for context in (first, again, other)]
    assert blocks[0] == blocks[1] != blocks[2]
    assert len(blocks[0].demonstrations) == 3
    assert (await first.for_task(ask("find thing 3", task="x4"))).demonstrations != blocks[0].demonstrations
    drawn = {
        ref for i in range(200) for ref in shown(await RandomDemonstrations(library, seed=i).for_task(ask("g", "x3")))
    }
    assert {name for name, _, _ in drawn} == {t.id for t in TAUGHT} - {"x3"}
    assert (await first.for_step(ask("find thing 3"))).text == ""


async def test_random_per_step_draws_anew_at_each_step():
    library = build_library(TAUGHT, ContextConfig(k=2, window=0, mode=Mode.PER_STEP))
    context = RandomDemonstrations(library)
    assert (await context.for_task(ask("g"))).text == ""
    draws = [await context.for_step(ask("g", step_index=i)) for i in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]
    assert all(stop - start == 1 for _, start, stop in shown(draws[0]))


async def test_how_episodes_ended_is_counted_for_retrieved_demonstrations():
    library = build_library(TAUGHT, ContextConfig(k=2))
    block = await RetrievedDemonstrations(library).for_task(ask("get a mug"))
    await RetrievedDemonstrations(library).observe(block.demonstrations * 5, True)
    await RandomDemonstrations(library).observe(block.demonstrations, False)
    assert {name: (u.shown, u.succeeded) for name, u in library.utility().items()} == {
        ref.trajectory_id: (1, 1) for ref in block.demonstrations
    }


async def test_many_episodes_at_once_see_what_each_would_see_alone():
    library = build_library(TAUGHT, ContextConfig(k=2, mode=Mode.PER_STEP))
    context = RetrievedDemonstrations(library)
    queries = [ask(f"find thing {i}", task=f"x{i}", observation=f"room {i}") for i in range(20)]
    alone = [await context.for_step(query) for query in queries]
    assert await asyncio.gather(*(context.for_step(query) for query in queries)) == alone


def test_a_config_that_does_not_fit_is_refused_at_once():
    with pytest.raises(ConfigError, match="ranker"):
        RetrievedDemonstrations(build_library(TAUGHT, ContextConfig()), ContextConfig(ranker="onnx:x"))
