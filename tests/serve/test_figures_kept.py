"""Figures are kept once per episode, for one day, and take about 400 bytes each."""

from __future__ import annotations

import tracemalloc

from potstill.serve.figures.episode import EpisodeFigures, Spent
from potstill.serve.figures.remembered import KeptFigures
from potstill.types import TrajectoryKind

DAY = 20_000


def figures(episode: str, usd: float = 0.25) -> EpisodeFigures:
    return EpisodeFigures(
        tenant="".join(["acme", "-co"]),
        episode=episode,
        route="".join(["support", "/auto"]),
        kind=TrajectoryKind.TEACHER,
        task=f"gateway/{episode}",
        goal=f"Book a flight for {episode}. " * 10,
        started_at=DAY * 86_400.0,
        steps=6,
        success=True,
        broke=False,
        answered={"teacher": 6},
        stage="shadow/shadow",
        spent={"teacher": Spent(usd=usd, input_tokens=9000, cache_read_tokens=8000, output_tokens=700, calls=6)},
        usd=usd,
        alone_usd=usd,
        way_usd=usd,
    )


def test_an_episode_that_goes_on_takes_the_place_of_what_it_was() -> None:
    kept = KeptFigures()
    for exchanges in range(10_000):
        kept.keep(("acme", "e", exchanges, 1.0, False), DAY, figures("e", usd=float(exchanges)))
        kept.keep(("acme", "e", exchanges, 1.0, False), None, figures("e", usd=float(exchanges)))
    assert len(kept) == 2
    assert kept.find(("acme", "e", 9998, 1.0, False), DAY) is None
    found = kept.find(("acme", "e", 9999, 1.0, False), DAY)
    assert found is not None
    assert found.usd == 9999.0


def test_what_a_search_met_is_bounded_and_the_idlest_goes_first() -> None:
    kept = KeptFigures(searched=100)
    for number in range(10_000):
        kept.keep(("acme", f"e{number}", 1), None, figures(f"e{number}"))
        assert kept.find(("acme", "e0", 1), None) is not None
    assert len(kept) == 100
    assert kept.find(("acme", "e9999", 1), None) == figures("e9999")
    assert kept.find(("acme", "e1", 1), None) is None


def test_only_one_days_figures_are_kept() -> None:
    kept = KeptFigures()
    kept.keep(("acme", "e", 1), DAY, figures("e"))
    assert kept.find(("acme", "e", 1), DAY + 1) is None
    assert kept.find(("acme", "e", 1), None) is None
    kept.keep(("acme", "f", 1), DAY + 1, figures("f"))
    assert len(kept) == 1


def test_what_is_no_more_among_the_days_episodes_is_forgotten() -> None:
    kept = KeptFigures()
    for name in ("goes-on", "ended", "other-tenants"):
        kept.keep(("acme", name, 1), DAY, figures(name))
    kept.keep(("acme", "changed", 1), DAY, figures("changed"))
    kept.only([("acme", "goes-on", 1), ("acme", "changed", 2), ("other", "other-tenants", 1)], DAY)
    assert len(kept) == 1
    assert kept.holds(("acme", "goes-on", 1), DAY)
    assert [one.task for one in kept.of_day(DAY)] == ["gateway/goes-on"]
    assert list(kept.of_day(DAY + 1)) == []


def test_a_tenants_episode_of_the_same_name_is_another() -> None:
    kept = KeptFigures()
    kept.keep(("acme", "e", 1), None, figures("e"))
    assert kept.find(("globex", "e", 1), None) is None


def test_a_days_figures_keep_what_its_overview_adds_up() -> None:
    kept = KeptFigures()
    whole = figures("e")
    kept.keep(("acme", "e", 1), DAY, whole)
    found = kept.find(("acme", "e", 1), DAY)
    assert found is not None
    for name in whole.__struct_fields__:
        if name not in ("episode", "goal", "answered"):
            assert getattr(found, name) == getattr(whole, name)


def test_ten_thousand_episodes_of_a_day_take_about_four_megabytes() -> None:
    kept = KeptFigures()
    tracemalloc.start()
    try:
        for number in range(10_000):
            kept.keep(("acme", f"episode-{number:08d}", 6, True, None, number), DAY, figures(f"episode-{number:08d}"))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == 10_000
    assert taken < 5 * 2**20
