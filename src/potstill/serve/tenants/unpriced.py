"""Budgets in dollars over models without a price: what an operator is warned of.

What it knows: which tenants and keys with such a budget may ask for which models. What it does not do: what is charged
then (``guesses``), or prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from potstill.errors import PotstillError
from potstill.serve.settings import Gateway, Mode, Model, Route
from potstill.serve.tenants.keys import VirtualKey, may_ask

if TYPE_CHECKING:
    from potstill.measure.prices.table import PriceTable

SHOWN = 3


def unpriced(settings: Gateway, prices: PriceTable | None, keys: Iterable[VirtualKey] = ()) -> Iterator[str]:
    """One warning for each model without a price on routes that somebody with a budget in dollars may ask for."""
    models = {model.name: model for model in settings.models}
    keys = tuple(keys)
    whom: dict[str, list[str]] = {}
    for route in settings.routes:
        payers = _payers(settings, keys, route.name)
        for name in _asked(route) if payers else ():
            if not _has_price(models[name], prices):
                known = whom.setdefault(name, [])
                known.extend(payer for payer in payers if payer not in known)
    for name, payers in whom.items():
        more = f" and {len(payers) - SHOWN} more" if len(payers) > SHOWN else ""
        yield (
            f"'{models[name].model}' has no price, so budgets in dollars are charged guesses for it "
            f'({", ".join(payers[:SHOWN])}{more}). Write price_as = "MODEL", or "free" where it costs no money, '
            f'into [models."{name}"], or list its price in potstill-prices.toml'
        )


def unpriced_before(settings: Gateway) -> tuple[str, ...]:
    """The same for a gateway that does not run: keys of a file that exists, none of a server."""
    from pathlib import Path

    from potstill.measure.prices.table import PriceTable
    from potstill.serve.tenants.key_rows import StoreRows
    from potstill.trajectories.opening import is_url
    from potstill.trajectories.store import Store

    try:
        prices = PriceTable.load()
    except PotstillError:
        prices = None
    keys: list[VirtualKey] = []
    if not is_url(settings.db) and Path(settings.db).expanduser().exists():
        with Store.read(settings.db) as store:
            keys = StoreRows(store).all_keys()
    return tuple(unpriced(settings, prices, keys))


def _payers(settings: Gateway, keys: tuple[VirtualKey, ...], route: str) -> list[str]:
    """Tenants and keys with a budget in dollars that may ask for a route."""
    bounds = {tenant.name: tenant.models for tenant in settings.tenants}
    return [
        f"tenant '{tenant.name}'"
        for tenant in settings.tenants
        if tenant.budget_usd_per_day is not None and may_ask(tenant.models, route)
    ] + [
        f"key '{key.id}' of '{key.tenant}'"
        for key in keys
        if key.budget_usd_per_day is not None
        and key.revoked_at is None
        and may_ask(key.routes, route)
        and may_ask(bounds.get(key.tenant, ()), route)
    ]


def _asked(route: Route) -> tuple[str, ...]:
    """Names of the models that requests on a route may lead to."""
    if route.student is None or route.mode is Mode.RECORD:
        return (route.teacher,)
    return route.teacher, route.student


def _has_price(model: Model, prices: PriceTable | None) -> bool:
    return prices is not None and prices.has(model.price_as or model.model)
