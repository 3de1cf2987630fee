"""Options of environments are checked before anything is built with them."""

from __future__ import annotations

import pytest

from potstill.envs.registry import factory, open_source
from potstill.errors import ConfigError


@pytest.mark.parametrize(("name", "option"), [("minigrid", "train"), ("minigrid", "max_steps"), ("textworld", "train")])
def test_a_value_of_a_wrong_type_names_the_option(name: str, option: str) -> None:
    with pytest.raises(
        ConfigError, match=f"option '{option}' of the environment '{name}' is 'abc'; it must be a whole"
    ):
        open_source(name, **{option: "abc"})


def test_an_option_of_both_reaches_both() -> None:
    pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")
    assert factory("minigrid", action_space="macro", train=3).options == {"action_space": "macro"}


def test_a_folder_of_games_where_there_are_none() -> None:
    pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")
    with pytest.raises(ConfigError, match="'minigrid' has no games in files: leave out --tasks"):
        open_source("minigrid", directory="/tmp")
