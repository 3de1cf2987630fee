"""``potstill playbook`` as it is typed, on a real store: what each command does, says and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.playbook import files, playbook
from potstill.cli.playbook.books import FIRST
from potstill.distill.playbook import formats
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Quarantine, Stage
from potstill.errors import ConfigError, PotstillError, StoreError, UnknownName
from potstill.trajectories import Store
from potstill.types import Outcome, PlaybookUse

sys.path.append(str(Path(__file__).parent.parent / "trajectories"))
from trajectory_fakes import episode

RULES = ("Open the drawer before you take from it.", "Label fragile goods before packing.", "Weigh what is posted.")


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture
def three(db: str) -> str:
    """A store with a book of three live bullets, written by one batch of two sources."""
    adds = tuple(Add(section="rules", content=rule, stage=Stage.LIVE) for rule in RULES)
    with Store.open(db) as store:
        Playbook(store, "default", FIRST).apply(Batch(operations=adds, actor="curator", sources=("episode-1",)))
    return db


def call(db: str, *words: str, input: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(playbook, [*words, "--db", db], input=input, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def told(db: str, *words: str, input: str | bytes | None = None) -> dict:
    return json.loads(call(db, *words, "--json", input=input).stdout)


def refused(db: str, *words: str, input: str | bytes | None = None) -> Exception:
    result = CliRunner().invoke(playbook, [*words, "--db", db], input=input)
    assert isinstance(result.exception, Exception), result.output
    return result.exception


def bullets(db: str, name: str = FIRST, namespace: str = "default") -> dict:
    with Store.open(db) as store:
        return Playbook(store, namespace, name).bullets()


def revision(db: str) -> int:
    with Store.open(db) as store:
        return Playbook(store, "default", FIRST).revision


# --- looking --------------------------------------------------------------------------------------------------------


def test_books_are_listed_by_tenant(three: str) -> None:
    call(three, "add", "Ask for the order first.", "--namespace", "acme", "--book", "support")
    (row,) = json.loads(call(three, "list", "--json").stdout)
    assert (row["namespace"], row["name"], row["revision"], row["bullets"]) == ("default", FIRST, 1, 3)
    assert [row["name"] for row in json.loads(call(three, "list", "--json", "--all-namespaces").stdout)] == [
        "support",
        FIRST,
    ]
    assert "Others' need" in call(three, "list", "--namespace", "nobody").stderr


def test_the_only_book_need_not_be_named_and_one_of_several_must(three: str) -> None:
    assert told(three, "show")["book"] == FIRST
    call(three, "add", "Ask first.", "--book", "support")
    error = refused(three, "show")
    assert isinstance(error, ConfigError)
    assert "There are 2 playbooks: playbook, support. Type which one: --book playbook" in str(error)
    wrong = refused(three, "show", "--book", "suport")
    assert isinstance(wrong, UnknownName)
    assert "Did you mean 'support'?" in str(wrong)
    assert isinstance(refused(three, "add", "x", "--book", "a\nb"), ConfigError)


def test_nothing_there_says_what_to_type_and_makes_nothing(db: str, tmp_path: Path) -> None:
    assert isinstance(refused(db, "show"), StoreError)
    assert not Path(db).exists()
    Store.open(db).close()
    error = refused(db, "show")
    assert isinstance(error, ConfigError)
    assert "Type: potstill playbook add TEXT" in str(error)


def test_show_as_rows_by_id_and_as_json(three: str) -> None:
    call(three, "remove", "b-2")
    lines = call(three, "show").stdout.splitlines()
    assert lines[0].split("\t")[:4] == ["id", "section", "stage", "state"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["b-1", "b-3"]
    every = told(three, "show", "--all")
    assert [one["removed"] for one in every["bullets"]] == [False, True, False]
    assert every["matching"] == 3
    assert every["bullets"][0]["helpful"] == 0, "fields at their default are there, too"
    shown = call(three, "show", "b-2", "b-1").stdout
    assert shown.startswith("b-2 removed\n  section: rules\n  content: Label fragile goods")
    assert "learnt from: episode-1" in shown
    assert "no bullet 'b-9'" in str(refused(three, "show", "b-9"))


def test_show_filters_and_pages(three: str) -> None:
    call(three, "stage", "shadow", "b-3")
    assert [one["id"] for one in told(three, "show", "--stage", "shadow")["bullets"]] == ["b-3"]
    assert [one["id"] for one in told(three, "show", "--match", "FRAGILE")["bullets"]] == ["b-2"]
    assert told(three, "show", "--section", "Rules")["matching"] == 3
    assert told(three, "show", "--section", "other")["matching"] == 0
    part = call(three, "show", "--limit", "1", "--offset", "1")
    assert [line.split("\t")[0] for line in part.stdout.splitlines()[1:]] == ["b-2"]
    assert part.stderr == "1 more. Type: --limit N, --offset 2, or pipe it: | less\n"


def test_show_at_an_earlier_revision(three: str) -> None:
    call(three, "edit", "b-1", "--content", "Close the drawer.")
    assert told(three, "show", "b-1", "--as-of", "1")["bullets"][0]["content"] == RULES[0]
    assert told(three, "show", "--as-of", "0")["bullets"] == []
    assert "Available: 0 (empty) to 2" in str(refused(three, "show", "--as-of", "3"))


def test_rendered_is_what_a_student_is_shown(three: str) -> None:
    call(three, "stage", "shadow", "b-2")
    done = call(three, "show", "--rendered")
    assert done.stdout == f"## RULES\n[b-1] {RULES[0]}\n[b-3] {RULES[2]}\n"
    assert "2 bullets" in done.stderr
    whole = told(three, "show", "--rendered")
    assert whole["text"] + "\n" == done.stdout
    assert (whole["bullets"], whole["left_out"]) == (["b-1", "b-3"], [])
    small = told(three, "show", "--rendered", "--budget", "15")
    assert small["tokens"] <= 15
    assert len(small["left_out"]) == 1
    assert call(three, "show", "--rendered", "--as-of", "1").stdout.count("[b-") == 3
    call(three, "stage", "shadow", "b-1", "b-3")
    assert "3 bullets in shadow" in call(three, "show", "--rendered").stderr
    assert isinstance(refused(three, "show", "b-1", "--rendered"), ConfigError)


# --- changing -------------------------------------------------------------------------------------------------------


def test_add_gives_an_id_and_neutralises_what_it_is_given(db: str) -> None:
    done = call(db, "add", "See [b-7]:\n## RULES", "--section", "House rules", "--stage", "shadow")
    assert done.stdout.splitlines() == ["book\trevision\tbullets", f"{FIRST}\t1\tb-1"]
    assert "Kept as: See [b - 7]: \\## RULES" in done.stderr
    assert "b-1 is in shadow: nobody is shown it." in done.stderr
    (one,) = bullets(db).values()
    assert (one.section, one.content, one.stage) == ("house_rules", "See [b - 7]:\n    \\## RULES", Stage.SHADOW)


def test_add_reads_stdin_and_keeps_sources_and_reasons(db: str) -> None:
    call(db, "add", "-", "--source", "e1", "--source", "e2", "--reason", "told so", "--actor", "ana", input="Weigh it.")
    (entry,) = json.loads(call(db, "log", "--json").stdout)
    assert (entry["actor"], entry["sources"], entry["reason"], entry["did"]) == (
        "ana",
        ["e1", "e2"],
        "told so",
        "1 ADD",
    )
    assert entry["operations"][0]["content"] == "Weigh it."
    assert "No text was given" in str(refused(db, "add"))
    assert "stdin is not UTF-8 text: byte 1 is 0xff" in str(refused(db, "add", "-", input=b"a\xff"))


def test_add_of_what_is_there_says_where_and_adds_nothing(three: str) -> None:
    error = refused(three, "add", "open the  drawer before you take from it.", "--section", "rules")
    assert isinstance(error, ConfigError)
    assert str(error).startswith("b-1 says so already (exact, 1.00)")
    assert revision(three) == 1
    call(three, "add", RULES[0], "--section", "rules", "--even-if-alike")
    assert len(bullets(three)) == 4


def test_a_long_text_is_refused_and_not_cut(three: str) -> None:
    for words in (("add", "x " * 3000), ("edit", "b-1", "--content", "x " * 3000)):
        error = refused(three, *words)
        assert isinstance(error, ConfigError)
        assert "at most 4,000" in str(error)
    assert "The text is empty" in str(refused(three, "add", "\u200b"))
    assert revision(three) == 1


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("pin",), "pinned", True),
        (("quarantine", "--reason", "suspect"), "quarantined", True),
        (("remove",), "removed", True),
        (("stage", "canary"), "stage", Stage.CANARY),
    ],
)
def test_several_bullets_are_one_batch(three: str, words: tuple[str, ...], field: str, value: object) -> None:
    done = told(three, *words, "b-1", "b-3")
    assert done == [{"book": FIRST, "revision": 2, "bullets": ["b-1", "b-3"]}]
    assert [getattr(one, field) == value for one in bullets(three).values()] == [True, False, True]
    error = refused(three, *words, "b-2", "b-99")
    assert isinstance(error, ConfigError)
    assert "no bullet 'b-99'. Type: potstill playbook show" in str(error)
    assert revision(three) == 2, "nothing of it was applied"


def test_pin_quarantine_and_removal_are_taken_back(three: str) -> None:
    for words in (
        ("pin", "b-1"),
        ("unpin", "b-1"),
        ("quarantine", "b-2"),
        ("remove", "b-3"),
        ("restore", "b-2", "b-3"),
    ):
        call(three, *words)
    assert all(one.shown and not one.pinned for one in bullets(three).values())
    assert "Removed before" not in call(three, "pin", "b-3").stderr
    call(three, "remove", "b-3")
    assert "Removed before" in call(three, "pin", "b-3").stderr


def test_a_whole_stage_is_moved(three: str) -> None:
    call(three, "stage", "shadow", "b-1", "b-2")
    assert told(three, "stage", "live", "--from", "shadow")[0]["bullets"] == ["b-1", "b-2"]
    assert "No bullet of" in str(refused(three, "stage", "live", "--from", "canary"))
    for words in (("stage", "live"), ("stage", "live", "b-1", "--from", "shadow")):
        assert "Name bullets or a stage" in str(refused(three, *words))


def test_votes_and_merges(three: str) -> None:
    call(three, "tag", "b-2", "--helpful", "2", "--harmful", "1")
    call(three, "merge", "b-1", "b-2", "b-3", "--content", "Drawers, labels, weights.")
    one = bullets(three)["b-1"]
    assert (one.content, one.helpful, one.harmful, one.lineage) == ("Drawers, labels, weights.", 2, 1, ("b-2", "b-3"))
    assert "state" in call(three, "show", "--all").stdout
    assert "merged into b-1" in call(three, "show", "b-3").stdout
    assert "merged into itself" in str(refused(three, "merge", "b-1", "b-1"))
    assert "No vote was given" in str(refused(three, "tag", "b-1"))
    assert "may be -1000000 to 1000000" in str(refused(three, "tag", "b-1", "--helpful", "1000001"))


def test_a_secret_is_masked_on_every_way_in(three: str, tmp_path: Path) -> None:
    key = "sk-" + "a1" * 14
    done = call(three, "add", f"Send {key} first.", "--reason", f"they use {key}")
    assert "What looks like a secret was masked" in done.stderr
    call(three, "edit", "b-1", "--content", f"Use {key}.")
    call(three, "merge", "b-2", "b-3", "--content", f"Both: {key}.")
    (tmp_path / "theirs.md").write_text(f"- Their key is {key}.\n")
    warned = told(three, "import", str(tmp_path / "theirs.md"))["warnings"]
    assert warned == ["1 bullet: what looks like a secret was masked: a playbook is shown to models."]
    assert bullets(three)["b-5"].content == "Their key is [redacted:api-key]."
    with Store.open(three) as store:
        assert Playbook(store, "default", FIRST).scan([key]) == []


# --- editing --------------------------------------------------------------------------------------------------------


def test_edit_and_what_the_log_says_of_it(three: str) -> None:
    call(three, "edit", "b-1", "--content", "-", "--source", "episode-2", input="Pull the drawer open.")
    one = bullets(three)["b-1"]
    assert (one.content, one.sources, one.revision) == ("Pull the drawer open.", ("episode-1", "episode-2"), 2)
    same = call(three, "edit", "b-1", "--content", "Pull the drawer open.")
    assert "Nothing was changed" in same.stderr
    assert revision(three) == 2
    call(three, "remove", "b-1")
    assert "b-1 was removed. Type: potstill playbook restore b-1" in str(
        refused(three, "edit", "b-1", "--content", "x")
    )


def test_the_second_of_two_edits_keeps_both_texts(three: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    call(three, "edit", "b-1", "--content", "Ana's text.", "--actor", "ana")
    result = CliRunner().invoke(
        playbook, ["edit", "b-1", "--db", three, "--content", "Ben's text.", "--revision", "1", "--json"]
    )
    assert type(result.exception).__name__ == "EditConflict"
    assert isinstance(result.exception, PotstillError)
    conflict = json.loads(result.stdout)["conflict"]
    assert (conflict["yours"], conflict["read"]) == ("Ben's text.", 1)
    assert conflict["theirs"] == {"content": "Ana's text.", "revision": 2, "actor": "ana", "removed": False}
    kept = Path(conflict["file"])
    assert kept.read_text() == "Ben's text."
    assert kept.stat().st_mode & 0o077 == 0
    assert bullets(three)["b-1"].content == "Ana's text."
    assert "changed by 'ana' since you read it" in str(result.exception)
    call(three, "edit", "b-1", "--content-file", str(kept), "--revision", "2")
    assert bullets(three)["b-1"].content == "Ben's text."


def test_a_refused_edit_keeps_the_text_too(three: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(playbook, ["edit", "b-1", "--db", three, "--content", "Fine.", "--actor", "a\x07b"])
    assert isinstance(result.exception, ConfigError)
    assert "holds the control character" in str(result.exception)
    (kept,) = tmp_path.glob("potstill-b-1-*.txt")
    assert kept.read_text() == "Fine."
    assert str(kept) in result.stderr


# --- the past -------------------------------------------------------------------------------------------------------


def test_log_diff_blame_and_rollback(three: str) -> None:
    call(three, "edit", "b-1", "--content", "Close the drawer.", "--actor", "ana")
    call(three, "tag", "b-1", "--helpful", "1")
    rows = [line.split("\t") for line in call(three, "log").stdout.splitlines()[1:]]
    assert [(row[0], row[2], row[3], row[4]) for row in rows] == [
        ("3", "admin", "1 TAG", "b-1"),
        ("2", "ana", "1 UPDATE", "b-1"),
        ("1", "curator", "3 ADD", "b-1, b-2, b-3"),
    ]
    assert len(json.loads(call(three, "log", "--json", "--after", "1", "--until", "2").stdout)) == 1

    lines = call(three, "diff", "1").stdout.splitlines()
    assert lines[:5] == ["--- revision 1", "+++ revision 3", "@@ b-1 changed @@", f"-{RULES[0]}", "+Close the drawer."]
    (change,) = told(three, "diff", "2", "3")["changes"]
    assert (change["kind"], change["counters"][0]["after"]) == ("counted", 1)
    assert "Nothing differs" in call(three, "diff", "3", "3").stderr

    blame = told(three, "blame", "b-1")
    assert [line["actor"] for line in blame["lines"]] == ["curator", "ana"]
    assert blame["current"] == 1
    assert "revision 2, " in call(three, "blame", "b-1").stdout
    assert isinstance(refused(three, "blame", "b-9"), ConfigError)

    dry = told(three, "rollback", "1", "--dry-run")
    assert [one["id"] for one in dry["changes"]] == ["b-1"]
    assert revision(three) == 3
    back = call(three, "rollback", "1", "--reason", "wrong")
    assert bullets(three)["b-1"].content == RULES[0]
    assert bullets(three)["b-1"].helpful == 1, "votes stay"
    assert "To undo this, type: potstill playbook rollback 3" in back.stderr
    assert "nothing was done" in call(three, "rollback", "1").stderr
    assert "Available: 0 (empty) to 4" in str(refused(three, "rollback", "9"))


def test_check_replays_the_log(three: str) -> None:
    assert told(three, "check")["problems"] == []
    with Store.open(three) as store:
        book = Playbook(store, "default", FIRST)
        book.apply(Batch(operations=(Quarantine(id="b-1"),), actor="x"))
    assert "All is well" in call(three, "check").stderr


def test_a_book_that_is_not_what_its_log_says_exits_with_5(three: str) -> None:
    from engines import raw

    with raw(three) as connection:
        connection.execute("UPDATE playbook_bullets SET body = replace(body, 'drawer', 'window') WHERE id = 'b-1'")
    error = refused(three, "check")
    assert isinstance(error, StoreError)
    assert "has 1 problem." in str(error)


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_forget_erases_in_every_book_of_the_tenant_and_proves_it(three: str) -> None:
    with Store.open(three) as store:
        for namespace, name in (("default", "second"), ("acme", "other")):
            add = Add(section="x", content="Never post glass on Fridays.", stage=Stage.LIVE)
            Playbook(store, namespace, name).apply(Batch(operations=(add,), actor="ana", sources=("episode-1",)))
    dry = told(three, "forget", "--source", "episode-1", "--dry-run")
    assert [(row["book"], row["gone"]) for row in dry["books"]] == [(FIRST, ["b-1", "b-2", "b-3"]), ("second", ["b-1"])]
    assert len(bullets(three)) == 3

    done = CliRunner().invoke(playbook, ["forget", "--source", "episode-1", "--db", three], catch_exceptions=False)
    assert done.exit_code == 0
    proof = "every row of 2 books and of the namespace's episodes was scanned, and no trace is left: no whole text"
    assert f"Proof: {proof}" in done.stderr
    assert "Backups of the store and exported files are not potstill's to erase" in done.stderr
    assert bullets(three) == bullets(three, "second") == {}
    assert len(bullets(three, "other", "acme")) == 1, "another tenant's book is another matter"
    log = call(three, "log", "--book", "second").stdout
    assert "FORGET" in log
    assert "1 ADD (erased)" in log
    assert "ana" not in log


def test_a_trace_that_is_left_is_named_and_exits_with_1(three: str) -> None:
    call(three, "add", f"Remember: {RULES[0]}", "--source", "episode-2", "--even-if-alike")
    result = CliRunner().invoke(playbook, ["forget", "--source", "episode-1", "--db", three])
    assert type(result.exception) is PotstillError
    assert "left of what was forgotten" in str(result.exception)
    assert "trace (text) in playbook_bullets.body of b-4" in result.stderr
    assert "no playbook in namespace 'acme'" in str(refused(three, "forget", "--source", "x", "--namespace", "acme"))


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_formats_of_the_help_are_those_that_there_are() -> None:
    assert tuple(formats.FORMATS) == files.FORMATS


@pytest.mark.parametrize("name", files.FORMATS)
def test_every_format_comes_back(three: str, tmp_path: Path, name: str) -> None:
    call(three, "tag", "b-1", "--helpful", "3")
    file = tmp_path / f"book.{name}"
    done = told(three, "export", str(file), "--format", name)
    assert (done["format"], done["bullets"]) == (name, 3)
    other = str(tmp_path / "other.db")
    imported = told(
        other, "import", str(file), *(() if name != "agents" else ("--format", "agents")), "--stage", "live"
    )
    assert (imported["added"], imported["twins"], imported["format"]) == (3, 0, name.replace("ace-plain", "ace"))
    back = bullets(other)
    assert [one.content for one in back.values()] == list(RULES)
    assert back["b-1"].helpful == (3 if "helpful" in formats.FORMATS[name].carries else 0)
    again = told(other, "import", str(file), *(() if name != "agents" else ("--format", "agents")))
    assert again["repeated"]
    assert len(bullets(other)) == 3
    assert bullets(other)["b-1"].helpful == back["b-1"].helpful, "votes are not counted twice"


def test_export_goes_by_the_name_and_replaces_nothing_unasked(three: str, tmp_path: Path) -> None:
    for name, means in (("b.json", "json"), ("b.md", "markdown"), ("SKILL.md", "skill"), ("b.txt", "ace")):
        assert told(three, "export", str(tmp_path / name))["format"] == means
    assert (tmp_path / "SKILL.md").read_text().startswith("---\nname: playbook\n")
    error = refused(three, "export", str(tmp_path / "b.md"))
    assert isinstance(error, ConfigError)
    assert "is there already. To replace it, type: --force" in str(error)
    call(three, "export", str(tmp_path / "b.md"), "--force")
    assert "does not say its format" in str(refused(three, "export", str(tmp_path / "b.xyz")))
    raw = call(three, "export", "-", "--format", "ace").stdout
    assert raw == (tmp_path / "b.txt").read_text()


def test_an_agents_file_keeps_its_own_text(three: str, tmp_path: Path) -> None:
    file = tmp_path / "AGENTS.md"
    file.write_text("# Mine\n\nMy own words.\n")
    call(three, "export", str(file))
    call(three, "remove", "b-2")
    call(three, "export", str(file))
    text = file.read_text()
    assert text.startswith("# Mine\n\nMy own words.\n")
    assert RULES[0] in text
    assert RULES[1] not in text


def test_the_blocks_of_two_books_stand_in_one_agents_file(three: str, tmp_path: Path) -> None:
    file = tmp_path / "AGENTS.md"
    call(three, "add", "Ask before a refund.", "--stage", "shadow", "--book", "desk")
    call(three, "export", str(file), "--book", FIRST)
    before = file.read_bytes()
    done = call(three, "export", str(file), "--book", "desk", "--force")
    assert "0 of 1 bullet written" in done.stderr
    assert file.read_bytes().startswith(before)
    call(three, "export", str(file), "--book", "desk", "--shadow")
    text = file.read_text()
    assert all(rule in text for rule in RULES)
    assert text.count("Ask before a refund.") == 1
    file.write_text(text.replace(" desk -->", " -->"))
    assert "type: --force" in str(refused(three, "export", str(file), "--book", "desk"))
    assert "Ask before a refund." in file.read_text()
    call(three, "export", str(file), "--book", "desk", "--force")
    assert "Ask before a refund." not in file.read_text()
    assert file.read_bytes().startswith(before)


def test_export_and_import_name_the_bullets_that_are_not_as_they_were(three: str, tmp_path: Path) -> None:
    call(three, "add", "-", "--stage", "live", input="Sum the column:\nfor row in rows:\n    total += row\n")
    said = told(three, "export", str(tmp_path / "a.txt"))["warnings"]
    assert "line ends (1 bullet). Type for everything: --format json" in said[0]
    assert said[1] == "1 bullet of several lines is one line each in the file, also program code in them: b-4"
    assert "program code in them: b-4" in call(three, "export", "-", "--format", "ace-plain").stderr
    assert told(three, "export", str(tmp_path / "a.json"))["warnings"] == []
    (tmp_path / "theirs.txt").write_text("## OTHERS\n[misc-00006] helpful=1 harmful=0 :: Sum:\n```\n## rows\n```\n")
    (warning,) = told(three, "import", str(tmp_path / "theirs.txt"))["warnings"]
    assert "1 bullet is not kept letter by letter (misc-00006)" in warning


def test_export_leaves_out_what_nobody_may_be_shown(three: str, tmp_path: Path) -> None:
    call(three, "stage", "shadow", "b-1")
    call(three, "quarantine", "b-2")
    assert told(three, "export", str(tmp_path / "a.md"))["bullets"] == 1
    assert told(three, "export", str(tmp_path / "b.md"), "--shadow")["bullets"] == 2
    assert told(three, "export", str(tmp_path / "c.md"), "--as-of", "1")["bullets"] == 3
    assert told(three, "export", str(tmp_path / "d.json"))["bullets"] == 3


def test_import_says_what_it_would_do_and_does_it(three: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.md"
    file.write_text(f"## Rules\n- {RULES[0]}\n- Count the change twice.\n- Count the change twice.\n")
    fields = ("bullets", "added", "twins", "repeated")
    dry = told(three, "import", str(file), "--dry-run")
    assert [dry[name] for name in fields] == [3, 1, 2, False]
    assert revision(three) == 1
    done = told(three, "import", str(file))
    assert [done[name] for name in fields] == [3, 1, 2, False]
    assert done["ids"] == ["b-1", "b-4", "b-4"]
    assert bullets(three)["b-4"].stage is Stage.SHADOW
    assert "Nothing was added: it was a dry run" in call(three, "import", str(file), "--dry-run").stderr
    assert "To add its bullets again, type: --again" in call(three, "import", str(file)).stderr
    assert not told(three, "import", str(file), "--again")["repeated"]
    assert told(str(tmp_path / "none.db"), "import", str(file), "--dry-run")["added"] == 2
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "The file is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b'{"format": "potstill-playbook", "version": 99, "sections": [], "bullets": []}', "pip install --upgrade"),
        (b'{"operations": [', "begins like JSON and is not"),
        (b"Just some prose.", "looks like none of the formats"),
    ],
)
def test_a_bad_file_says_why_and_adds_nothing(three: str, data: bytes, says: str) -> None:
    error = refused(three, "import", "-", input=data)
    assert isinstance(error, ConfigError)
    assert says in str(error)
    assert "Nothing was imported" in str(error)
    assert revision(three) == 1


# --- near-duplicates ------------------------------------------------------------------------------------------------


def test_duplicates_are_proposed_and_merged_when_told(three: str) -> None:
    call(three, "add", "Open the drawers before you take from it.", "--section", "rules", "--even-if-alike")
    call(three, "tag", "b-4", "--helpful", "2")
    (cluster,) = told(three, "duplicates")["clusters"]
    assert {cluster["into"], *cluster["ids"]} == {"b-1", "b-4"}
    assert revision(three) == 3
    assert told(three, "duplicates", "--threshold", "1")["clusters"] == []
    done = told(three, "duplicates", "--apply")
    assert (done["applied"], done["revision"]) == (True, 4)
    assert bullets(three)[cluster["into"]].helpful == 2
    assert "No two bullets" in call(three, "duplicates").stderr


# --- the text, and what bullets are worth ---------------------------------------------------------------------------


def test_compact_puts_the_text_in_order_and_show_prints_the_one_that_is_kept(three: str) -> None:
    call(three, "add", "Ask who it is for.", "--section", "formulas & calculations")
    assert told(three, "show", "--rendered")["bullets"] == ["b-4", "b-1", "b-2", "b-3"]
    call(three, "compact")
    call(three, "add", "Thank them.", "--section", "formulas & calculations")
    kept = told(three, "show", "--rendered")
    assert kept["bullets"] == ["b-4", "b-1", "b-2", "b-3", "b-5"], "behind, until the next compaction"
    (row,) = told(three, "compact")
    assert (row["bullets"], row["left_out"], row["came_or_went"]) == (5, 0, 0)
    assert told(three, "show", "--rendered")["bullets"] == ["b-4", "b-5", "b-1", "b-2", "b-3"]
    (small,) = told(three, "compact", "--budget", "20")
    assert small["left_out"] > 0


def test_report_retires_what_harms_and_only_when_told(three: str) -> None:
    """60 trials: with b-1 nobody succeeds, without it everybody does; b-2 makes no difference."""
    call(three, "pin", "b-3")
    with Store.open(three) as store:
        for n in range(60):
            harm, other = n % 2 == 0, n % 4 < 2
            shown = tuple(id for id, there in (("b-1", harm), ("b-2", other), ("b-3", True)) if there)
            withheld = tuple(id for id, there in (("b-1", harm), ("b-2", other)) if not there)
            use = PlaybookUse(name=FIRST, revision=2, shown=shown, withheld=withheld, trial=True)
            store.append(episode(f"e{n}", steps=1, playbook=use, outcome=Outcome(success=not harm)))
    found = told(three, "report", "--no-prices")
    assert (found["episodes"], found["trials"], found["applied_in"]) == (60, 60, [])
    row = found["bullets"][0]
    assert (row["id"], row["trials_with"], row["trials_without_succeeded"], row["act"]) == ("b-1", 30, 30, "quarantine")
    assert [one["act"] for one in found["bullets"]] == ["quarantine", "keep", "keep"]
    table = call(three, "report", "--no-prices", "--limit", "1")
    cells = dict(zip(*(line.split("\t") for line in table.stdout.splitlines()), strict=True))
    assert (cells["with"], cells["without"], cells["act"], cells["why"]) == ("0/30", "30/30", "quarantine", "harmful")
    assert "To do it, type: --apply" in table.stderr
    assert not bullets(three)["b-1"].quarantined

    done = call(three, "report", "--no-prices", "--apply")
    assert bullets(three)["b-1"].quarantined
    assert "To undo, type: potstill playbook rollback 2" in done.stderr
    call(three, "rollback", "2")
    assert bullets(three)["b-1"].shown


def test_report_prices_the_rent_and_says_what_has_no_price(three: str) -> None:
    assert "There is no trial yet" in call(three, "report").stderr
    with Store.open(three) as store:
        use = PlaybookUse(name=FIRST, revision=1, shown=("b-1",))
        store.append(episode("e", steps=1, playbook=use))
    assert "scripted:x" in call(three, "report").stderr
    row = told(three, "report", "--price-teacher-as", "gpt-4.1")["bullets"][0]
    assert row["tokens"] > 0
    assert row["observed_shown"] == 1
