"""``potstill config``: the settings in force, where each came from, and a file to start with."""

from __future__ import annotations

from pathlib import Path

import click

from potstill import config as settings
from potstill.cli.output import emit_table, emit_text, json_option, note, without_passwords
from potstill.errors import ConfigError


@click.group()
def config() -> None:
    """Show the settings in force and their sources.

    Settings are defaults of the options with the same name: potstill.toml (here or in a folder above, or the file that
    POTSTILL_CONFIG names), then POTSTILL_* variables, then flags.
    """


@config.command()
@json_option
def show(json_mode: bool) -> None:
    """Every setting with its value and source."""
    loaded = settings.load()
    rows = [
        (name, _shown(getattr(loaded.settings, name)), str(source), settings.HELP[name])
        for name, source in loaded.sources.items()
    ]
    emit_table(["setting", "value", "source", "meaning"], rows, json_mode=json_mode)
    for name in loaded.ignored:
        note(f"{name} is set but is no setting: ignored")
    if loaded.path is None:
        note("no potstill.toml here or above; 'potstill config init' writes one")


def _shown(value: object) -> object:
    return without_passwords(value) if isinstance(value, str) else value


@config.command()
def path() -> None:
    """The settings file in force."""
    found = settings.find()
    if found is None:
        raise ConfigError("There is no potstill.toml here or in a folder above. Type: potstill config init")
    emit_text(str(found))


@config.command()
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(force: bool) -> None:
    """Write a potstill.toml with every setting commented out."""
    target = Path(settings.FILE_NAME)
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(settings.template())
    except FileExistsError as error:
        raise ConfigError(f"{target} exists. Edit it, or type: potstill config init --force") from error
    note(f"wrote {target}")
