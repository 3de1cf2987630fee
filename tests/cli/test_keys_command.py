"""``potstill keys``: a key is printed once, works in a gateway's gate, and ends when it is revoked."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import pytest
from terminal import potstill

from potstill.serve.seams import Admission
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "gateway.db")


def admitted(db: str, text: str, route: str = "auto") -> bool:
    async def ask() -> bool:
        with Store.open(db) as store:
            gate = TenantGate(StoreRows(store), keys_required=True)
            found = await gate.admit(text, route, time.time())
            await gate.aclose()
        return isinstance(found, Admission)

    return asyncio.run(ask())


def test_a_key_is_made_used_listed_and_revoked(db: str) -> None:
    made = potstill("keys", "add", "--db", db, "--tenant", "team-a", "--budget-usd", "5", "--route", "auto")
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    match = re.fullmatch(r"psk_([a-z2-7]{12})_[A-Za-z0-9]{32}", text)
    assert match is not None
    assert text not in made.stderr
    assert admitted(db, text)
    assert not admitted(db, text, "another")

    listed = potstill("keys", "list", "--db", db, "--json")
    (row,) = json.loads(listed.stdout)
    assert (row["id"], row["tenant"], row["state"]) == (match[1], "team-a", "active")
    assert (row["budget_usd_per_day"], row["routes"], row["requests_today"]) == (5.0, ["auto"], 1)
    assert text[17:] not in listed.stdout + listed.stderr
    assert potstill("keys", "list", "--db", db).stdout.splitlines()[1].startswith(f"{match[1]}\tteam-a\t")

    gone = potstill("keys", "revoke", match[1], "--db", db, "--json")
    assert json.loads(gone.stdout)["state"] == "revoked"
    assert not admitted(db, text)
    assert potstill("keys", "revoke", match[1], "--db", db).returncode == 0


def test_json_holds_the_key_where_it_is_made(db: str) -> None:
    made = potstill("keys", "add", "--db", db, "--tenant", "t", "--expires-in-days", "1", "--json")
    row = json.loads(made.stdout)
    assert row["key"].startswith(f"psk_{row['id']}_")
    assert row["expires_at"] > row["created_at"]


def test_a_whole_key_may_be_given_to_revoke_and_is_not_repeated(db: str) -> None:
    text = potstill("keys", "add", "--db", db, "--tenant", "t").stdout.strip()
    gone = potstill("keys", "revoke", text, "--db", db)
    assert gone.returncode == 0
    assert text not in gone.stdout + gone.stderr
    unknown = potstill("keys", "revoke", f"psk_{'a' * 12}_{'x' * 32}", "--db", db)
    assert unknown.returncode == 2
    assert "x" * 32 not in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add"], "--tenant"),
        (["add", "--tenant", "no slash/es"], "no name of a tenant"),
        (["add", "--tenant", "t", "--budget-usd", "-1"], "budget_usd_per_day is -1"),
        (["add", "--tenant", "t", "--requests-per-minute", "0"], "requests_per_minute is 0"),
        (["add", "--tenant", "t", "--expires-in-days", "0"], "--expires-in-days 0"),
        (["revoke", "nobody"], "No store at"),
        (["list"], "No store at"),
    ],
)
def test_what_cannot_be_meant_says_so(db: str, arguments: list[str], says: str) -> None:
    done = potstill("keys", *arguments, "--db", db)
    assert done.returncode in (2, 5)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path(db).exists()
