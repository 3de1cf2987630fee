"""What can be known to go wrong before a gateway listens, and what works and is probably not meant.

What it knows: who refuses to start and why: each part says so itself. What it does not do: connect to anything, make a
store, or look at names and numbers within the settings (``settings_file``).
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator

from potstill.errors import StoreError
from potstill.record.redact import Redactor
from potstill.serve.admin_key import check_admin_key
from potstill.serve.deciding.policies import Policies
from potstill.serve.deciding.tuned import check_tuned
from potstill.serve.packages import needs_packages
from potstill.serve.recording.checking import loaded
from potstill.serve.rollout.trust import trust_of
from potstill.serve.settings import Gateway, Mode
from potstill.serve.tenants.keys import may_ask
from potstill.serve.upstreams.endpoints import Endpoint


def check(settings: Gateway, admin_key: str | None) -> None:
    """Raise what would keep a gateway of these settings from starting in this environment: ``ConfigError`` for a key
    that is not set or an admin key that is weak, ``MissingExtra``, ``StoreError``, what ``trust.trust_of`` raises."""
    needs_packages()
    check_admin_key(admin_key, settings.host)
    for upstream in settings.upstreams:
        Endpoint(upstream)
    for route in settings.routes:
        trust_of(route, settings)
    Policies(settings)
    check_tuned(settings)
    loaded(settings)
    Redactor(settings.recording.redact, builtin=settings.recording.builtin_redaction)
    if settings.otel.endpoint:
        from potstill.serve.telemetry.export import headers_of, needs_exporter

        headers_of(settings.otel)
        needs_exporter()
    _check_store(settings.db)


def warnings_of(settings: Gateway) -> tuple[str, ...]:
    """What an operator should know, though it can be served."""
    told = [warning for route in settings.routes for warning in trust_of(route, settings).warnings]
    return (*told, *_unmatched(settings))


def hints_of(settings: Gateway) -> Iterator[str]:
    """What each route does with its student at first, and how to have it otherwise."""
    for route in settings.routes:
        share = f"{100 * route.shadow_share:g} %"
        if route.mode is Mode.SHADOW:
            yield (
                f"route '{route.name}': the student is asked beside the teacher at {share} of the requests; "
                "shadow_share in a file (--config) says how many"
            )
        elif route.mode is Mode.CASCADE and route.rollout:
            yield (
                f"route '{route.name}' begins in shadow ({share} of the requests are compared) and lets the student "
                "act as its stage grows; to begin at once, write rollout = false into its table of a file (--config)"
            )


def _unmatched(settings: Gateway) -> Iterator[str]:
    """Names that tenants may ask for and that there are not."""
    if settings.passthrough is not None or settings.default_route is not None:
        return
    names = [route.name for route in settings.routes]
    for tenant in settings.tenants:
        for allowed in tenant.models:
            if not any(may_ask((allowed,), name) for name in names):
                near = difflib.get_close_matches(allowed, names, 1)
                meant = f" Did you mean '{near[0]}'?" if near else f" There are: {', '.join(names)}."
                yield f"no route matches '{allowed}' of the tenant '{tenant.name}'.{meant}"


def _check_store(place: str) -> None:
    """Raises ``StoreError`` for a file that is no store or could not be made; a server is not connected to."""
    from pathlib import Path

    from potstill.trajectories.opening import is_url, needs_driver, secrets_of
    from potstill.trajectories.store import Store

    if is_url(place):
        secrets_of(place)
        return needs_driver()
    path = Path(place).expanduser().absolute()
    if path.exists():
        return Store.read(path).close()
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK) or not shutil.disk_usage(folder).total:
        raise StoreError(f"The store {path} cannot be made: {folder} is no folder that may be written. Type: --db FILE")
