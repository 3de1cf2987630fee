"""The price table: names resolve, dates and tiers hold, what is unknown is an error that says what to type."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from potstill.errors import ConfigError, UnknownPrice
from potstill.measure.prices import PriceTable, Rates, cache_rule
from potstill.measure.prices.matching import dashed_date, matches
from potstill.measure.prices.table import PACKAGED

DATE = "2026-11-21"


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return PriceTable.load(date=DATE, snapshot=PACKAGED)


@pytest.mark.parametrize(
    ("name", "row", "rates"),
    [
        ("claude-sonnet-5-5", "anthropic/claude-sonnet-5-5", Rates(2, 0.1, 2.5, 4, 10)),
        ("claude-haiku-5-5", "anthropic/claude-haiku-5-5", Rates(0.1, 0.01, 0.125, 0.2, 0.5)),
        ("gpt-6.1-sol", "openai/gpt-6.1-sol", Rates(2, 0.1, 2.5, None, 10)),
        ("gpt-6-luna", "openai/gpt-6-luna", Rates(0.1, 0.01, 0.125, None, 0.5)),
        ("openai/gpt-6-luna", "openai/gpt-6-luna", Rates(0.1, 0.01, 0.125, None, 0.5)),
        ("anthropic:claude-opus-5-5", "anthropic/claude-opus-5-5", Rates(4, 0.2, 5, 8, 20)),
        ("claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5", Rates(3, 0.3, 3.75, 6, 15)),
        ("gpt-4.1-mini-20250414", "openai/gpt-4.1-mini", Rates(0.4, 0.1, None, None, 1.6)),
        ("http:GPT-4.1-mini", "openai/gpt-4.1-mini", Rates(0.4, 0.1, None, None, 1.6)),
        ("kimi-k3.1-pro", "moonshotai/kimi-k3.1-pro", Rates(2, 0.2, 2, 4, 10)),
        ("azure/gpt-6-luna", "openai/gpt-6-luna", Rates(0.1, 0.01, 0.125, None, 0.5)),
    ],
)
def test_names_resolve_to_their_list_price(table: PriceTable, name: str, row: str, rates: Rates) -> None:
    price = table.price(name)
    assert (price.row, price.rates) == (row, rates)


def test_a_price_of_the_future_and_of_the_past() -> None:
    def rate(model: str, date: str) -> float:
        return PriceTable.load(date=date, snapshot=PACKAGED).price(model).rates.input

    assert (rate("gemini-3.8-flash", "2026-12-31"), rate("gemini-3.8-flash", "2027-01-01")) == (0.75, 1.5)
    assert (rate("gpt-5.6-sol", "2026-08-20"), rate("gpt-5.6-sol", "2026-08-21")) == (5, 4)


def test_a_tier_begins_above_its_threshold(table: PriceTable) -> None:
    price = table.price("claude-haiku-5-5")
    assert price.rates_for(100_000) == (price.rates, None)
    assert price.rates_for(100_001) == (Rates(0.5, 0.05, 0.625, 1, 2.5), 100_000)


def test_batch_is_half_price(table: PriceTable) -> None:
    assert table.price("claude-opus-5-5", "batch").rates == Rates(2, 0.1, 2.5, 4, 10)
    with pytest.raises(UnknownPrice, match=r"No 'batch' price for 'x-ai/.*Available: standard"):
        table.price("grok-4.7", "batch")


def test_unknown_model_names_the_file_and_near_names(table: PriceTable) -> None:
    with pytest.raises(UnknownPrice) as caught:
        table.price("claude-sonet-5-5")
    message = str(caught.value)
    assert "claude-sonet-5-5" in message
    assert "claude-sonnet-5-5" in message
    assert "potstill-prices.toml" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["local:gpt-4.1-mini", "expert:rooms", "replay:x", "scripted:claude-haiku-5-5", ""])
def test_what_runs_here_has_no_list_price(table: PriceTable, name: str) -> None:
    with pytest.raises(UnknownPrice):
        table.price(name)


def test_a_name_sold_at_several_prices_must_be_made_clear(table: PriceTable) -> None:
    with pytest.raises(UnknownPrice, match="different prices at"):
        table.price("deepseek-ai/deepseek-v3.1")


def test_users_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "potstill-prices.toml"
    path.write_text(
        """
        [prices]
        cpu_hour_usd = 0.04
        [prices.models."my-finetune"]
        input = 0.4
        output = 1.6
        minimum_cache_tokens = 7
        tiers = [{ above = 1000, input = 0.8, output = 3.2 }]
        [prices.models."local:small"]
        same_as = "claude-haiku-5-5"
        """
    )
    table = PriceTable.load(path, date=DATE, snapshot=PACKAGED)
    own = table.price("my-finetune")
    assert own.rates == Rates(0.4, output=1.6)
    assert own.rates_for(1001)[0] == Rates(0.8, output=3.2)
    assert own.cache.minimum_tokens == 7
    assert table.price("local:small").row == "anthropic/claude-haiku-5-5"
    assert table.cpu_hour_usd == 0.04
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert PriceTable.load(snapshot=PACKAGED).cpu_hour_usd == 0.04


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prices.models.a]\ninput = -1", "not negative"),
        ("[prices.models.a]\noutput = 1", "needs either same_as"),
        ('[prices.models.a]\ninput = 1\nsame_as = "b"', "needs either same_as"),
        ("[prices.models.a]\ninputs = 1", "inputs"),
        ("[prices]\ncpu_hour_usd = -2", "cannot be negative"),
        ("[prices", "not valid TOML"),
        ('[prices.models.a]\nsame_as = "b"\n[prices.models.b]\nsame_as = "a"', "circle"),
    ],
)
def test_wrong_rows_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        PriceTable.load(path, date=DATE, snapshot=PACKAGED).price("a")


def test_wrong_dates_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a date"):
        PriceTable.load(date="21.11.2026")
    with pytest.raises(ConfigError, match="No price file"):
        PriceTable.load(tmp_path / "absent.toml")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ConfigError, match="not a price snapshot"):
        PriceTable.load(snapshot=tmp_path / "bad.json")


def test_the_refreshed_snapshot_wins_if_it_is_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    packaged = PriceTable.load().snapshot
    for date, expected in (("2099-01-01", "2099-01-01"), ("2020-01-01", packaged.date)):
        (tmp_path / "potstill").mkdir(exist_ok=True)
        changed = msgspec.structs.replace(packaged, date=date)
        (tmp_path / "potstill" / "prices.json").write_bytes(msgspec.json.encode(changed))
        assert PriceTable.load().snapshot.date == expected


def test_match_rules() -> None:
    rule = ["exact", ["^", "pre"], ["$", "post"], ["*", "mid"], ["~", r"^r\d$"], ["&", ["^", "a"], ["$", "z"]]]
    yes = ("exact", "prefix", "xpost", "amidst", "r1", "abz")
    assert all(matches(rule, name) for name in yes)
    assert not any(matches(rule, name) for name in ("exac", "r12", "ab", "bz"))
    assert dashed_date("gpt-5.2-20251211") == "gpt-5.2-2025-12-11"


def test_cache_rules_follow_provider_and_model() -> None:
    assert cache_rule("anthropic", "claude-haiku-4-5").minimum_tokens == 4096
    assert cache_rule("anthropic", "claude-sonnet-5-5").minimum_tokens == 1024
    assert cache_rule("openrouter", "anthropic/claude-opus-4.5").minimum_tokens == 4096
    assert cache_rule("openai", "gpt-6-luna").block_tokens == 128
    assert cache_rule("deepseek", "deepseek-chat").minimum_tokens == 64


def test_every_row_can_be_priced_and_cache_reads_cost_no_more_than_input(table: PriceTable) -> None:
    dearer = {"~deepseek/deepseek-pro-latest"}  # as listed: 0.23 a read, 0.225 fresh
    for provider in table.snapshot.providers:
        for row in provider.models:
            for period in row.periods:
                for rates in (period.rates, *(tier.rates for tier in period.tiers)):
                    assert rates.read_rate <= rates.input or row.id in dearer, row.id


def test_snapshot_equals_what_the_compiler_makes_of_the_installed_source() -> None:
    pytest.importorskip("genai_prices", reason="needs genai-prices: pip install genai-prices")
    from potstill.measure.prices.compile import compile_snapshot

    packaged = PriceTable.load(snapshot=PACKAGED).snapshot
    fresh = compile_snapshot(packaged.date)
    if msgspec.json.decode(fresh)["source"] != packaged.source:
        pytest.skip(f"another version of genai-prices is installed than {packaged.source}")
    assert fresh == PACKAGED.read_bytes()


def test_an_endpoint_of_ones_own_has_only_its_home_price(table: PriceTable) -> None:
    assert table.price("http:http://gateway.local/v1#gpt-6-luna").row == "openai/gpt-6-luna"
    with pytest.raises(UnknownPrice):
        table.price("http:http://localhost:8000/v1#llama-3.3-70b")
