"""The guide's commands are accepted and reach the addresses that they say; the page on examples names them all."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from potstill.cli.serve import serve
from potstill.serve.settings_file import from_flags
from potstill.serve.upstreams.endpoints import Endpoint

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guides" / "frameworks.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("   ")[0] for line in GUIDE.splitlines() if line.startswith("potstill serve")]
ASKED = {
    "api.openai.com": "https://api.openai.com/v1/chat/completions",
    "api.anthropic.com": "https://api.anthropic.com/v1/messages",
    "generativelanguage": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "openai.azure.com": "https://resource.openai.azure.com/openai/v1/chat/completions",
    "bedrock-runtime": "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions",
    "api.deepseek.com": "https://api.deepseek.com/chat/completions",
    "api.fireworks.ai": "https://api.fireworks.ai/inference/v1/chat/completions",
    "api.groq.com": "https://api.groq.com/openai/v1/chat/completions",
    "localhost:11434": "http://localhost:11434/v1/chat/completions",
}
"""Where requests must go for the providers whose addresses differ in form."""


def told(command: str) -> dict[str, str]:
    words = shlex.split(command)[2:]
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_quoted_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (variable := told(command).get("key-env")) is not None:
        monkeypatch.setenv(variable, "a-key-that-is-not-sent")
    done = CliRunner().invoke(serve, [*shlex.split(command)[2:], "--check", "--json"])
    assert done.exit_code == 0, (done.output, done.exception)


def test_providers_are_asked_where_their_documentation_says() -> None:
    reached = {}
    for flags in map(told, COMMANDS):
        settings = from_flags(flags["teacher"], dialect=flags.get("dialect", "openai-chat"))
        url = str(Endpoint(settings.upstreams[0]).url())
        reached |= {name: url for name in ASKED if name in flags["teacher"]}
    assert reached == ASKED


def test_every_provider_has_a_command_or_says_why_not() -> None:
    providers = GUIDE.partition("## Providers")[2]
    assert len(re.findall(r"^\*\*", providers, re.MULTILINE)) == providers.count("potstill serve --") + 1


def test_the_page_of_examples_names_them_all() -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:python|node|sh) gateway/(\S+)`", page))
    assert named == {path.name for path in (ROOT / "examples" / "gateway").iterdir() if path.is_file()}
