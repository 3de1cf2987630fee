"""The guide to playbooks is followed to its end: each of its commands, in its order, on a store of its own."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from playbook_models import on_path
from terminal import potstill

from potstill.trajectories import Store

sys.path.append(str(Path(__file__).parent.parent / "trajectories"))
from trajectory_fakes import episode

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "playbooks.md"
BY_RULE = {
    "local:smollm2-135m": "python:playbook_models:open_student#s",
    "openai:gpt-4.1": "python:playbook_models:open_teacher#t",
}
"""What stands for the guide's models, which need weights or a key; everything else is as it is quoted."""
PRICED = ("--price-teacher-as", "gpt-4.1")


def commands() -> list[list[str]]:
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith("potstill ")]


def as_run(words: list[str]) -> list[str]:
    if words[1] == "serve":
        return [*words[1:], "--check"]
    replaced = [BY_RULE.get(word, word) for word in words[1:]]
    return [*replaced, *PRICED] if "--teacher" in words else replaced


def test_every_command_of_the_guide_does_what_it_is_quoted_for(tmp_path: Path) -> None:
    printed: dict[str, str] = {}
    quoted = commands()
    assert len(quoted) > 25
    for words in quoted:
        if "--from-store" in words:  # a gateway recorded something since
            with Store.open(tmp_path / "potstill.db") as store:
                store.append(episode("yesterday", steps=2))
        done = potstill(*as_run(words), cwd=tmp_path, PYTHONPATH=on_path())
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
        printed.setdefault(shlex.join(words), done.stdout)
    block = re.search(r"^```text\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    assert printed["potstill playbook show --rendered"] == block[1]
    assert (tmp_path / "SKILL.md").read_text().startswith("---\nname: playbook\n")
    assert "\nplaybook\t20\t" in printed["potstill measure --run compared"]
