"""What lies in the repository is fit to be read by anyone: no paths of someone's machine, no keys, no large files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FORBIDDEN = {
    "a path of someone's machine": re.compile(r"(?<![\w.~/-])/(?:home|Users|root|work)/[a-z][\w.-]*"),
    "a key": re.compile(r"\b(?:sk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}|AKIA[0-9A-Z]{16}|hf_[A-Za-z]{30,}|ghp_\w{36})\b"),
    "a private key": re.compile("-----BEGIN " + r"[A-Z ]*PRIVATE KEY-----"),
    "an unfinished place": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
    "a merge conflict": re.compile(r"^(?:<{7} |>{7} )", re.MULTILINE),
}
LARGEST_BYTES = 1_000_000


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: nothing is tracked")
    files = [repository / name for name in done.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_text_holds(what: str, tracked: list[Path], repository: Path) -> None:
    found = []
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for match in FORBIDDEN[what].finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(repository)}:{line}: {match[0]}")
    assert found == []


def test_no_tracked_file_is_large(tracked: list[Path]) -> None:
    assert [path.name for path in tracked if path.stat().st_size > LARGEST_BYTES] == []


def test_the_checks_see_what_they_look_for() -> None:
    samples = {
        "a path of someone's machine": "open('/" + "home/ada/x')",
        "a key": "sk-" + "proj-" + "a" * 40,
        "a private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
        "an unfinished place": "# TO" + "DO later",
        "a merge conflict": "<" * 7 + " HEAD",
    }
    assert {what for what, text in samples.items() if FORBIDDEN[what].search(text)} == set(FORBIDDEN)


def test_every_module_says_what_it_is(repository: Path) -> None:
    import ast

    silent = [
        str(path.relative_to(repository))
        for path in (repository / "src").rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
