"""A test of the store runs on each engine: ``Store.open(path)`` is then a file, or a schema of the tests' PostgreSQL.

What is opened within the test's process, that is, also by a gateway that runs in one of its threads. ``BOTH`` names the
modules whose tests do, ``OF_FILES`` those of their tests that do not. ``raw(store)`` looks into a store's tables behind
its back, whichever engine it is on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from potstill.trajectories.opening import is_url, open_store, read_store
from potstill.trajectories.store import Store

BOTH = {
    "test_store",
    "test_journal",
    "test_journal_folding",
    "test_state_shared",
    "test_retention",
    "test_export_import",
    "test_trajectories_cli",
    "test_traces",
    "test_alone",
    "test_meeting",
    "test_episode_rows",
    "test_record_mode",
    "test_hot_path",
    "test_checking",
    "test_stages",
    "test_tenants_http",
    "test_fold_episode",
    "test_sdk_wrap",
    "test_vectors",
    "test_export_finetuning",
    "test_credit_read",
    "test_playbook_book",
    "test_playbook_order",
    "test_playbook_cli",
    "test_playbook_uses",
    "test_gateway_playbook",
    "test_playbook_keeper",
    "test_learning_store",
    "test_playbook_renderings",
}
OF_FILES = {
    "test_the_size_limit_refuses_and_keeps_what_was_there",
    "test_the_size_limit_refuses_and_what_was_acknowledged_stays",
    "test_closed_and_missing_and_foreign_files_say_so",
    "test_pruning_half_gives_about_half_of_the_file_back",
    "test_two_processes_count_as_one",
    "test_commands_that_read_change_no_file",
    "test_what_is_remembered_of_requests_is_bounded",
    "test_it_is_measured_and_audited",
    "test_no_key_reaches_the_store",
    "test_the_guides_settings_are_taken",
    "test_no_byte_of_what_was_forgotten_is_left_in_the_file",
    "test_no_byte_of_a_prompt_is_left_in_the_file",
    "test_no_byte_of_an_id_that_was_forgotten_is_left_in_the_file",
    "test_the_scan_looks_at_every_text_column",
    "test_a_book_may_be_as_large_as_the_store_and_no_larger",
    "test_a_store_of_the_schema_before_takes_them",
}
"""Sizes of files, files that are no stores, children that open files: PostgreSQL has tests of its own for these."""

_on: Callable[[Path | str], str] | None = None
"""Where a file's place is on PostgreSQL; None: files are files."""


def use(monkeypatch, url_for: Callable[[Path | str], str]) -> None:
    """Until the end of a test, ``Store.open`` and ``Store.read`` open on PostgreSQL what stands for a file."""

    def opened(path, *, create=True, max_bytes=None, clock=time.time):
        return open_store(_place(path), create=create, clock=clock)

    monkeypatch.setattr(Store, "open", staticmethod(opened))
    monkeypatch.setattr(Store, "read", staticmethod(lambda path: read_store(_place(path))))
    monkeypatch.setitem(globals(), "_on", url_for)


def _place(path: Path | str) -> str:
    return str(path) if is_url(path) or _on is None else _on(path)


@contextmanager
def raw(place: Store | Path | str) -> Iterator[sqlite3.Connection]:
    """A connection that takes SQLite's SQL; what it changes is committed."""
    place = _place(place.path if isinstance(place, Store) else place)
    if not is_url(place):
        with closing(sqlite3.connect(place)) as connection, connection:
            yield connection
        return
    from potstill.trajectories.postgres.connection import connect
    from potstill.trajectories.postgres.location import locate

    with closing(connect(locate(place))) as connection:
        yield connection  # type: ignore[misc]
