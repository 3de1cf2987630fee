"""Who is warned of a budget in dollars over a model without a price."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from potstill.cli.serve import show
from potstill.measure.prices.table import PriceTable
from potstill.serve import settings_file
from potstill.serve.settings import Gateway
from potstill.serve.tenants import keys
from potstill.serve.tenants.key_rows import StoreRows
from potstill.serve.tenants.unpriced import unpriced
from potstill.trajectories import Store

PRICES = PriceTable.load(prices={})


def told(db: str = "g.db", mode: str = "student", price_as: str | None = None, **tenant: Any) -> Gateway:
    small = {"upstream": "far", "model": "my-own-llama"} | ({} if price_as is None else {"price_as": price_as})
    tables = {
        "gateway": {"db": db},
        "upstreams": {"far": {"base_url": "http://127.0.0.1:9/v1"}},
        "models": {"big": {"upstream": "far", "model": "gpt-4.1"}, "small": small},
        "routes": {"auto": {"teacher": "big", "student": "small", "mode": mode}, "plain": {"teacher": "big"}},
        "tenants": {"team": tenant},
    }
    return settings_file.parse(tables, "here")


def test_a_budget_in_dollars_over_a_model_without_a_price() -> None:
    (warning,) = unpriced(told(budget_usd_per_day=5.0), PRICES)
    assert "'my-own-llama' has no price" in warning
    assert "tenant 'team'" in warning
    assert 'price_as = "MODEL", or "free"' in warning
    assert '[models."small"]' in warning


@pytest.mark.parametrize(
    "settings",
    [
        told(),
        told(budget_tokens_per_day=5),
        told(budget_usd_per_day=5.0, models=["plain"]),
        told(budget_usd_per_day=5.0, price_as="free"),
        told(budget_usd_per_day=5.0, price_as="gpt-4.1-nano"),
        told(budget_usd_per_day=5.0, mode="record"),
    ],
    ids=["none", "tokens", "another-route", "free", "priced", "not-asked"],
)
def test_nothing_to_warn_of(settings: Gateway) -> None:
    assert list(unpriced(settings, PRICES)) == []


def test_keys_count_unless_they_may_not_ask_or_are_revoked() -> None:
    def warned(tenant: str = "team", revoked_at: float | None = None, **fields: Any) -> list[str]:
        key, _ = keys.create(tenant, 1.0, **fields)
        key = type(key)(**{name: getattr(key, name) for name in key.__struct_fields__} | {"revoked_at": revoked_at})
        return list(unpriced(told(models=["auto"]), PRICES, [key]))

    assert len(warned(budget_usd_per_day=1.0)) == 1
    assert warned() == []
    assert warned(budget_usd_per_day=1.0, routes=("plain",)) == []
    assert warned(budget_usd_per_day=1.0, revoked_at=2.0) == []


def test_check_and_start_warn_of_keys_in_the_store(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    db = tmp_path / "g.db"
    with Store.open(db) as store:
        key, _ = keys.create("team", time.time(), budget_usd_per_day=1.0)
        StoreRows(store).put(key)
    settings = told(str(db))
    show(settings, json_mode=True)
    assert f"key '{key.id}' of 'team'" in capsys.readouterr().err
    start(settings, db=str(db))
    assert f"key '{key.id}' of 'team'" in caplog.text
