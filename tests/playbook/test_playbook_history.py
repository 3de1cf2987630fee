"""The past of a playbook: as it was, what changed, who did it, and the way back."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playbook_logs import Log, add, logs

from potstill.distill.playbook import blame as blaming
from potstill.distill.playbook import history
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Refused, replay, state_hash
from potstill.distill.playbook.blame import BlameLine, Votes, blame
from potstill.distill.playbook.history import DifferenceKind, as_of, diff
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.undo import undo
from potstill.errors import ConfigError


@pytest.fixture
def log() -> Log:
    """Two lessons, an edit, votes, a merge."""
    log = Log()
    log.do(add("use metres"), add("round at the end"), sources=("t-1",))  # 1
    log.do(ops.Tag(id="b-1", helpful=2), ops.Tag(id="b-2", harmful=1), sources=("t-2",))  # 2
    log.do(ops.Update(id="b-1", content="use SI units", revision=1), sources=("t-3",), reason="wider")  # 3
    log.do(ops.SetStage(id="b-1", stage=Stage.LIVE), ops.Pin(id="b-2"), actor="admin")  # 4
    merge = ops.Merge(into="b-1", ids=("b-2",), content="use SI units, round at the end", revisions=(3, 2))
    log.do(merge, actor="refine")  # 5
    log.do(ops.Tag(id="b-2", helpful=1), sources=("t-2",))  # 6
    return log


# --- as of ----------------------------------------------------------------------------------------------------------


def test_the_book_is_seen_as_it_was(log):
    assert replay(as_of(log.entries, 0)) == {}
    assert replay(as_of(log.entries, 1))["b-1"].content == "use metres"
    assert replay(as_of(log.entries, 3))["b-1"].content == "use SI units"
    assert replay(as_of(log.entries, 6)) == log.bullets


@pytest.mark.parametrize("revision", [-1, 7])
def test_a_revision_that_never_was_is_named_with_those_that_are(log, revision):
    with pytest.raises(ConfigError, match=f"no revision {revision}. Available: 0 \\(empty\\) to 6"):
        as_of(log.entries, revision)


@given(logs(), st.data())
def test_the_past_does_not_change_when_the_log_grows(log, data):
    revision = data.draw(st.integers(0, len(log.entries)))
    assert state_hash(replay(as_of(log.entries, revision))) == state_hash(replay(log.entries[:revision]))


# --- diff -----------------------------------------------------------------------------------------------------------


def test_a_difference_tells_edits_from_votes(log):
    changes = diff(replay(as_of(log.entries, 1)), replay(as_of(log.entries, 4)))
    assert history.as_lines(changes) == [
        "@@ b-1 changed @@",
        "-use metres",
        "+use SI units",
        "-stage: shadow",
        "+stage: live",
        "-sources: t-1",
        "+sources: t-1, t-3",
        " helpful: 0 -> 2",
        "@@ b-2 changed @@",
        "+pinned: true",
        " harmful: 0 -> 1",
    ]
    assert json.loads(json.dumps(history.as_json(changes)))[1] == {
        "id": "b-2",
        "kind": "changed",
        "fields": [{"field": "pinned", "before": False, "after": True}],
        "counters": [{"field": "harmful", "before": 0, "after": 1}],
    }


def test_kinds_of_differences(log):
    states = [replay(as_of(log.entries, revision)) for revision in range(7)]
    kinds = {
        (before, after): [change.kind for change in diff(states[before], states[after])]
        for before, after in ((0, 1), (1, 2), (4, 5), (5, 4), (1, 0), (6, 6))
    }
    assert kinds == {
        (0, 1): [DifferenceKind.ADDED] * 2,
        (1, 2): [DifferenceKind.COUNTED] * 2,
        (4, 5): [DifferenceKind.CHANGED, DifferenceKind.REMOVED],
        (5, 4): [DifferenceKind.CHANGED, DifferenceKind.RESTORED],
        (1, 0): [DifferenceKind.REMOVED] * 2,
        (6, 6): [],
    }


def test_what_came_and_went_in_between_is_no_difference(log):
    before = dict(log.bullets)
    log.do(add("short-lived"))
    log.do(ops.Remove(id="b-3"))
    assert diff(before, log.bullets) == ()


def test_a_content_cannot_forge_lines_of_a_difference():
    bullet = Bullet(id="b-1", number=1, section="s", content="one\n@@ b-2 removed @@\n-\x1b[2Jtwo\u2028three")
    lines = history.as_lines(diff({}, {"b-1": bullet}))
    assert lines[:3] == ["@@ b-1 added @@", "+section: s", "+one\\n@@ b-2 removed @@\\n-\\x1b[2Jtwo\\u2028three"]


@given(logs(), st.data())
def test_a_difference_is_empty_only_between_equal_books_and_turns_around(log, data):
    one, other = (replay(as_of(log.entries, data.draw(st.integers(0, len(log.entries))))) for _ in range(2))
    there, back = diff(one, other), diff(other, one)
    assert [change.id for change in there] == [change.id for change in back]
    for forth, reverse in zip(there, back, strict=True):
        turned = [(field.field, field.after, field.before) for field in (*forth.fields, *forth.counters)]
        assert turned == [(field.field, field.before, field.after) for field in (*reverse.fields, *reverse.counters)]
    if not there:
        standing = [{id for id, bullet in book.items() if not bullet.removed} for book in (one, other)]
        assert standing[0] == standing[1]


# --- blame ----------------------------------------------------------------------------------------------------------


def test_blame_says_who_wrote_what_and_whose_votes_count(log):
    answer = blame(log.entries, "b-1")
    assert [(line.revision, line.kind, line.actor, line.content, line.sources) for line in answer.lines] == [
        (1, "ADD", "curator", "use metres", ("t-1",)),
        (3, "UPDATE", "curator", "use SI units", ("t-3",)),
        (4, "STAGE", "admin", None, ()),
        (5, "MERGE", "refine", "use SI units, round at the end", ()),
    ]
    assert (answer.current, answer.lines[1].reason, answer.lines[3].others) == (3, "wider", ("b-2",))
    assert answer.votes == (
        Votes(sources=("t-2",), helpful=2),
        Votes(sources=("t-2",), via="b-2", helpful=1, harmful=1),
    )
    assert json.loads(json.dumps(blaming.as_json(answer)))["lines"][0]["content"] == "use metres"


def test_blame_of_a_merged_bullet_names_the_merge(log):
    assert blame(log.entries, "b-2").lines[-1] == BlameLine(
        revision=5,
        at=5.0,
        actor="refine",
        kind="MERGE",
        others=("b-1",),
    )


def test_blame_of_an_id_that_never_was(log):
    with pytest.raises(ConfigError, match=r"no bullet 'b-9', and never had. Type: potstill playbook list"):
        blame(log.entries, "b-9")


@given(logs())
def test_blame_agrees_with_the_book(log):
    for id, bullet in log.bullets.items():
        answer = blame(log.entries, id)
        for counter in history.COUNTERS:
            assert sum(getattr(votes, counter) for votes in answer.votes) == getattr(bullet, counter)
        assert answer.current is not None
        line = answer.lines[answer.current]
        assert (line.content, line.revision) == (bullet.content, bullet.changed_in)


# --- the way back ---------------------------------------------------------------------------------------------------

BACK = ("id", "number", "section", "content", "stage", "pinned", "quarantined", "removed", "merged_into", "lineage")


def same(past: dict[str, Bullet], now: dict[str, Bullet]) -> None:
    """Equal but for counters, sources and revisions; what came since is removed."""
    for id, bullet in now.items():
        if id in past:
            assert {name: getattr(bullet, name) for name in BACK} == {name: getattr(past[id], name) for name in BACK}
            assert set(past[id].sources) <= set(bullet.sources)
        else:
            assert bullet.removed
    assert past.keys() <= now.keys()


def test_the_way_back_by_hand(log):
    log.do(add("too much"), sources=("t-4",))
    batch = undo(log.entries, 3, actor="alice", reason="bad lesson")
    assert batch.operations == (
        ops.Restore(id="b-2", revision=3),
        ops.Update(id="b-1", content="use SI units", revision=4),
        ops.SetStage(id="b-1", stage=Stage.SHADOW, revision=5),
        ops.Pin(id="b-1", pinned=False, revision=6),
        ops.Pin(id="b-2", pinned=False, revision=4),
        ops.Remove(id="b-3", revision=1),
    )
    assert (batch.actor, batch.reason, batch.base, batch.sources) == ("alice", "bad lesson", 7, ())
    log.append(batch)
    same(replay(as_of(log.entries, 3)), log.bullets)
    votes = {id: (bullet.helpful, bullet.harmful) for id, bullet in log.bullets.items()}
    assert votes == {"b-1": (2, 0), "b-2": (1, 1), "b-3": (0, 0)}  # the vote of revision 6 stays


def merged(log: Log, into: str, *ids: str, content: str) -> None:
    revisions = tuple(log.bullets[id].revision for id in (into, *ids))
    log.do(ops.Merge(into=into, ids=ids, content=content, revisions=revisions))


def test_a_chain_of_merges_is_put_together_again_from_its_end(log):
    log.do(*(add(f"rule {number}") for number in range(5)))  # b-3 to b-7
    merged(log, "b-4", "b-3", "b-5", content="four")
    merged(log, "b-7", "b-4", "b-6", content="seven")
    log.do(ops.Quarantine(id="b-7"), ops.Pin(id="b-3"))
    past, revision = dict(log.bullets), len(log.entries)
    log.do(ops.Restore(id="b-3"))
    merged(log, "b-1", "b-3", content="elsewhere")
    log.do(ops.Update(id="b-1", content="and on", revision=log.bullets["b-1"].revision))
    log.append(undo(log.entries, revision))
    same(past, log.bullets)
    assert [log.bullets[id].lineage for id in ("b-1", "b-4", "b-7")] == [("b-2",), ("b-3", "b-5"), ("b-4", "b-6")]


def test_nothing_to_undo_is_a_batch_without_operations(log):
    assert undo(log.entries, 5).operations == ()  # since then there were votes only
    assert undo([], 0).operations == ()


def test_the_way_back_is_refused_where_somebody_edits_meanwhile(log):
    batch = undo(log.entries, 1)
    log.do(ops.Update(id="b-1", content="another", revision=4))
    with pytest.raises(Refused, match="b-1 is at revision 5 now"):
        log.append(batch)


def test_a_way_back_that_is_too_long_for_a_batch_names_a_nearer_revision():
    log = Log()
    for start in range(4):
        log.do(*(add(f"rule {start} {number}") for number in range(400)))
    with pytest.raises(
        ConfigError, match=r"takes 1600 operations; a batch has at most 1000. Go back to revision 2 first"
    ):
        undo(log.entries, 0)
    log.append(undo(log.entries, 2))
    log.append(undo(log.entries, 0))
    same({}, log.bullets)


@given(logs(), st.data())
def test_going_back_gives_the_old_book(log, data):
    revision = data.draw(st.integers(0, len(log.entries)))
    past, before = replay(as_of(log.entries, revision)), dict(log.bullets)
    batch = undo(log.entries, revision)
    if batch.operations:
        log.append(batch)
    same(past, log.bullets)
    assert replay(log.entries) == log.bullets
    assert undo(log.entries, revision).operations == ()
    assert votes(log.bullets) == votes(before)
    if batch.operations and revision and len(batch.operations) < 100:  # and forth again
        log.append(undo(log.entries, len(log.entries) - 1))
        same(before, log.bullets)


def votes(bullets: dict[str, Bullet]) -> dict[str, tuple[int, ...]]:
    """Each bullet's own: without those of what was merged into it."""
    own = {}
    for id, bullet in bullets.items():
        merged = [bullets[one] for one in bullet.lineage]
        names = history.COUNTERS
        own[id] = tuple(getattr(bullet, name) - sum(getattr(one, name) for one in merged) for name in names)
    return own


def test_differences_compare_every_field_of_a_bullet():
    apart = {"id", "number", "removed", "revision", "added_in", "changed_in"}
    assert set(history.FIELDS) | set(history.COUNTERS) | apart == {
        field.name for field in msgspec.structs.fields(Bullet)
    }
