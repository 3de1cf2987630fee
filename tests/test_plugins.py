"""Plug-ins of other packages, found through real metadata on the path."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from potstill import plugins
from potstill.errors import ConfigError, UnknownName


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Writes a package with one entry point, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(package: str, entry: str, code: str) -> None:
        (tmp_path / f"{package}.py").write_text(code, encoding="utf-8")
        metadata = tmp_path / f"{package}-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[potstill.environments]\n{entry}\n", encoding="utf-8")
        importlib.invalidate_caches()

    return write


def test_a_plugin_is_found_and_loaded_only_when_asked(install: object, capsys: pytest.CaptureFixture[str]) -> None:
    install("depot_agent", "depot = depot_agent:Depot", "print('loaded')\nclass Depot: pass")  # type: ignore[operator]
    assert "depot" in plugins.names("environment")
    assert capsys.readouterr().out == ""
    assert plugins.load("environment", "depot").__name__ == "Depot"
    assert capsys.readouterr().out == "loaded\n"


def test_a_mistyped_name_is_compared_with_plugins_and_built_in_parts(install: object) -> None:
    install("yard_agent", "yard = yard_agent:Yard", "class Yard: pass")  # type: ignore[operator]
    with pytest.raises(UnknownName, match=r"No environment named 'yrd'. Did you mean 'yard'\? .*alfworld.*yard"):
        plugins.load("environment", "yrd", built_in=["alfworld"])
    with pytest.raises(UnknownName, match=r"Did you mean 'alfworld'\?"):
        plugins.load("environment", "alfwrld", built_in=["alfworld"])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import not_installed_anywhere", "ModuleNotFoundError"),
        ("1/0", "ZeroDivisionError"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plugin_is_blamed_by_its_package(install: object, code: str, reason: str, request: object) -> None:
    package = f"broken_{reason.lower()}"
    install(package, f"broken = {package}:Thing", code)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=rf"'broken' of the package {package} 1.2 cannot be loaded: {reason}"):
        plugins.load("environment", "broken")


def test_two_packages_with_one_name_are_both_named(install: object) -> None:
    install("one_agent", "twin = one_agent:A", "class A: pass")  # type: ignore[operator]
    install("two_agent", "twin = two_agent:B", "class B: pass")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"'twin' is registered by one_agent 1.2 and two_agent 1.2"):
        plugins.load("environment", "twin")


def test_an_unknown_kind_of_plugin_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(UnknownName, match=r"No kind of plug-in named 'enviroment'. Did you mean 'environment'"):
        plugins.names("enviroment")
