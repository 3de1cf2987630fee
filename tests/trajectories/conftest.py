"""The store's tests run on both engines, but for what only a file has."""

from __future__ import annotations

import engines
import pytest

BOTH = {
    "test_store",
    "test_journal",
    "test_journal_folding",
    "test_state_shared",
    "test_retention",
    "test_export_import",
    "test_trajectories_cli",
    "test_traces",
    "test_episode_rows",
}
OF_FILES = {
    "test_the_size_limit_refuses_and_keeps_what_was_there",
    "test_the_size_limit_refuses_and_what_was_acknowledged_stays",
    "test_closed_and_missing_and_foreign_files_say_so",
    "test_pruning_half_gives_about_half_of_the_file_back",
    "test_two_processes_count_as_one",
    "test_commands_that_read_change_no_file",
    "test_what_is_remembered_of_requests_is_bounded",
}
"""Sizes of files, files that are no stores, children that open files: PostgreSQL has tests of its own for these."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ in BOTH and metafunc.function.__name__ not in OF_FILES:
        both = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("_engine", both, indirect=True)


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(request, "param", "sqlite") == "postgres":
        engines.use(monkeypatch, request.getfixturevalue("postgres").url_for)
