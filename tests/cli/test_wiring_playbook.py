"""The context of a run that counts demonstrations hides nothing of a playbook within it."""

from __future__ import annotations

from pathlib import Path

from potstill.cli.wiring import _Counted
from potstill.distill.context.config import ContextConfig
from potstill.distill.context.context import RetrievedDemonstrations
from potstill.distill.context.library import DemonstrationLibrary
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
from potstill.distill.playbook.operations import Batch, Stage
from potstill.protocols import BulletObserver, BulletReader
from potstill.trajectories import Store


async def test_bullets_are_observed_and_read_through_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "support")
        adds = (ops.Add(section="others", content="Look first.", stage=Stage.LIVE),)
        book.apply(Batch(operations=adds, actor="ana"))
        inner = PlaybookContext(book, PlaybookConfig())
        counted = _Counted(inner, store, "default")
        assert isinstance(counted, BulletObserver)
        assert isinstance(counted, BulletReader)
        await counted.observe_bullets(["b-1"], True)
        assert inner.exposures["b-1"].succeeded == 1
        assert counted.cited("as [b-1] says", ["b-1"]) == ("b-1",)
        assert store.counters("default") == {}, "outcomes of bullets are read from their uses alone"


async def test_a_context_without_bullets_names_none(tmp_path: Path) -> None:
    demonstrations = RetrievedDemonstrations(DemonstrationLibrary(ContextConfig()))
    with Store.open(tmp_path / "s.db") as store:
        counted = _Counted(demonstrations, store, "default")
        await counted.observe_bullets(["b-1"], True)
        assert counted.cited("as [b-1] says", ["b-1"]) == ()
