"""``potstill playbook import`` and ``export``: what is refused, what is left out, and that it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.playbook import playbook
from potstill.cli.playbook_session import _Watch
from potstill.distill.playbook.formats import BadPlaybookFile
from potstill.distill.playbook.learn.journal import Kind, Row
from potstill.distill.playbook.learn.result import Progress

MEGABYTE = "x" * (1 << 20)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


def call(db: str, *words: str) -> Result:
    result = CliRunner().invoke(playbook, [*words, "--db", db], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def shown(db: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(call(db, "show", "--json").stdout)["bullets"]
    return found


def test_a_file_with_a_bullet_of_a_megabyte_is_refused_whole(db: str, tmp_path: Path) -> None:
    call(db, "add", "One that is there.")
    file = tmp_path / "big.md"
    file.write_text(f"- Ask first.\n- {MEGABYTE}\n-\n")
    for words in (("--stage", "live"), ("--dry-run",)):
        result = CliRunner().invoke(playbook, ["import", str(file), *words, "--db", db])
        assert isinstance(result.exception, BadPlaybookFile), words
        said = str(result.exception)
        assert "line 2 has 1,048,576 characters; line 3 has no text. A bullet has 1 to 4,000 characters" in said
        assert said.endswith("type: --skip-bad")
    assert [bullet["content"] for bullet in shown(db)] == ["One that is there."]
    result = call(db, "import", str(file), "--skip-bad")
    assert "2 bullets are left out: line 2 has 1,048,576 characters; line 3 has no text." in result.stderr
    assert [bullet["content"] for bullet in shown(db)] == ["One that is there.", "Ask first."]


def test_a_text_that_only_its_masks_make_too_long_is_refused(db: str, tmp_path: Path) -> None:
    file = tmp_path / "book.md"
    file.write_text(f"- {'A_TOKEN=abcd1 ' * 280}\n")
    result = CliRunner().invoke(playbook, ["import", str(file), "--db", db])
    assert isinstance(result.exception, BadPlaybookFile)
    assert "line 1 has" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("json", []),
        ("ace", ["stage", "pins", "sources", "neutral votes"]),
        ("ace-plain", ["stage", "pins", "sources", "neutral votes", "helpful votes", "harmful votes"]),
        ("kayba-v1", ["stage", "pins", "sources"]),
        ("kayba-v2", ["stage", "pins", "sources"]),
        ("dynamic-cheatsheet", ["stage", "pins", "sources", "neutral votes", "harmful votes"]),
        ("markdown", ["stage", "pins", "sources", "neutral votes", "helpful votes", "harmful votes"]),
        ("skill", ["stage", "pins", "sources", "neutral votes", "helpful votes", "harmful votes"]),
        ("agents", ["stage", "pins", "sources", "neutral votes", "helpful votes", "harmful votes"]),
    ],
)
def test_an_export_says_all_that_it_drops(db: str, tmp_path: Path, name: str, dropped: list[str]) -> None:
    call(db, "add", "Ask for the order number before anything else.", "--source", "episode-1")
    call(db, "add", "Perhaps a voucher is enough.", "--stage", "shadow")
    call(db, "add", "Promise a refund at once.")
    call(db, "quarantine", "b-3")
    call(db, "pin", "b-1")
    call(db, "tag", "b-1", "--helpful", "1", "--harmful", "1", "--neutral", "1")
    result = call(db, "export", str(tmp_path / "file"), "--format", name)
    if name == "json":
        assert "does not carry" not in result.stderr
        assert "Left out" not in result.stderr
        return
    assert "Left out: 1 in shadow, 1 quarantined." in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "The format does not carry: " in line]
    told = line.split(": ", 1)[1].split(". ")[0].split(", ")
    assert sorted(told) == sorted(f"{what} (1 bullet)" for what in dropped)


@pytest.mark.parametrize("text", ["password: hunter2secret", "my password is Summer2026!x", "pwd=Xk29fLqP0a"])
def test_a_password_in_plain_words_is_masked_and_said(db: str, tmp_path: Path, text: str) -> None:
    secret = text.split()[-1].removeprefix("pwd=")
    result = call(db, "add", f"For the test shop the {text}")
    assert "What looks like a secret was masked" in result.stderr
    (tmp_path / "book.md").write_text(f"- On the staging site: {text}\n")
    result = call(db, "import", str(tmp_path / "book.md"))
    assert "1 bullet: what looks like a secret was masked" in result.stderr
    contents = [str(bullet["content"]) for bullet in shown(db)]
    assert len(contents) == 2
    assert all("[redacted:password]" in one and secret not in one for one in contents)


def test_words_about_passwords_stay(db: str) -> None:
    for text in ("The password field is required.", "password: optional"):
        assert "masked" not in call(db, "add", text).stderr
    assert [bullet["content"] for bullet in shown(db)] == ["The password field is required.", "password: optional"]


def test_a_dry_run_names_the_book_that_would_be_written_to(db: str, tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text("- Ask first.\n")

    def dry(*words: str) -> object:
        return json.loads(call(db, "import", str(tmp_path / "book.md"), "--dry-run", "--json", *words).stdout)["book"]

    assert (dry(), dry("--book", "house")) == ("playbook", "house"), "without a store"
    call(db, "add", "One.", "--book", "house")
    assert (dry(), dry("--book", "other")) == ("house", "other")
    call(db, "add", "One.", "--book", "other")
    refused = CliRunner().invoke(playbook, ["import", str(tmp_path / "book.md"), "--dry-run", "--db", db])
    assert "There are 2 playbooks" in str(refused.exception), "as the import itself would say"


def test_a_section_of_the_paper_is_not_called_new(db: str) -> None:
    call(db, "add", "Ask first.", "--section", "House rules")
    assert "is new in this book" not in call(db, "add", "Read the docs.", "--section", "others").stderr
    assert "is new in this book" in call(db, "add", "Lift with care.", "--section", "Forklifts").stderr


def test_an_agents_file_that_was_there_is_said_to_keep_its_text(db: str, tmp_path: Path) -> None:
    call(db, "add", "Ask first.")
    file = tmp_path / "AGENTS.md"
    assert "was there already" not in call(db, "export", str(file)).stderr
    file.write_text("# Ours\n")
    assert "was there already: all its other text stays as it was." in call(db, "export", str(file)).stderr
    assert file.read_text().startswith("# Ours\n")


def test_the_bar_of_a_run_that_goes_on_counts_what_it_did_before() -> None:
    shown: list[dict[str, object]] = []

    class Bar:
        def update(self, advance: float = 0, **told: object) -> None:
            shown.append(told)

    before = [Row(kind=Kind.PLAY, known=6), Row(kind=Kind.LEARN, applied={"ADD": 1})]
    watch = _Watch(Bar(), before)
    now = Row(kind=Kind.LEARN, applied={"ADD": 2})
    watch.saw(Progress(kind=Kind.LEARN, done=3, steps=4, epoch=0, row=now, cost_usd=0.0))
    assert (shown[0]["success"], shown[0]["written"]) == ("0/6", 3)
    _Watch(Bar()).saw(Progress(kind=Kind.LEARN, done=1, steps=4, epoch=0, row=now, cost_usd=0.0))
    assert "success" not in shown[1], "nobody said yet how an episode ended"
