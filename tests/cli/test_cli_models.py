"""``potstill models``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.models import models
from potstill.errors import BudgetReached, ConfigError, ModelUnavailable, UnknownName, UnknownPrice


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(models, list(arguments), standalone_mode=False)


def test_list_is_a_table_and_json() -> None:
    rows = json.loads(invoke("list", "--json").stdout)
    assert {row["name"] for row in rows} >= {
        "local:smollm2-135m",
        "expert",
        "openai:MODEL",
    }
    lines = invoke("list").stdout.splitlines()
    assert lines[0] == "name\tkind\tavailable\tdescription"
    assert len(lines) == len(rows) + 1


def test_a_key_that_is_set_is_told_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-secret")
    out = invoke("list", "--json").stdout
    (row,) = [row for row in json.loads(out) if row["name"] == "groq:MODEL"]
    assert row["available"] is True
    assert "gsk-secret" not in out


def test_get_of_an_unknown_name() -> None:
    assert isinstance(invoke("get", "smolm2-135m").exception, UnknownName)


def test_a_dry_run_sends_nothing_and_says_what_it_can_cost() -> None:
    (row,) = json.loads(invoke("check", "http:http://127.0.0.1:9/v1#gpt-4o", "--dry-run", "--json").stdout)
    assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (16, 3200, 15 * 24 + 128)
    (local,) = json.loads(invoke("check", "local:smollm2-135m", "--dry-run", "--json").stdout)
    assert local["cost_usd"] is None


def test_a_check_that_can_cost_too_much_does_not_start() -> None:
    result = invoke("check", "openai:gpt-4o", "--max-cost", "0.0001")
    assert isinstance(result.exception, BudgetReached)
    assert "--quick" in str(result.exception)


def test_an_unknown_price_is_no_free_check() -> None:
    assert isinstance(invoke("check", "openai:no-such-model-x", "--max-cost", "1").exception, UnknownPrice)


def test_nobody_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        result = invoke("check", f"http:http://127.0.0.1:{reserved.getsockname()[1]}/v1#m")
    assert isinstance(result.exception, ModelUnavailable)


@pytest.mark.parametrize("name", ["expert", "replay:x.jsonl"])
def test_what_cannot_be_asked_here(name: str) -> None:
    assert isinstance(invoke("check", name).exception, ConfigError)


def test_an_option_is_key_and_value(tmp_path: Path) -> None:
    assert "KEY=VALUE" in str(invoke("check", "openai:m", "-o", "fast").exception)
    assert isinstance(invoke("check", "http:http://h/v1#m", "-o", "fast=true").exception, UnknownName)
