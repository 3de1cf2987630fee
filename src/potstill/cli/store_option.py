"""The options ``--db`` and ``--namespace``, the same for every command that opens a store.

What it knows: that a URL may hold a password, which no help shows. What it does not do: open anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from potstill.cli.output import without_passwords

F = TypeVar("F", bound=Callable[..., Any])


class _Place(click.Option):
    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        if "default" in extra:  # out of the settings, it may be
            extra["default"] = without_passwords(extra["default"])
        return extra


def db_option(command: F) -> F:
    """A file, or ``postgresql://user@host/database``, which ``opening.open_store`` takes."""
    text = "The store: an SQLite file, or postgresql://..."
    named = click.option("--db", cls=_Place, envvar="POTSTILL_DB", default="potstill.db", show_default=True, help=text)
    return named(command)


def namespace_option(command: F) -> F:
    option = click.option("--namespace", default="default", show_default=True, help="The tenant; nothing crosses it.")
    return option(command)
