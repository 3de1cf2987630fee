"""Settings: file, then environment, then flags; a mistake is named with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from potstill import config
from potstill.cli.main import cli, option_defaults
from potstill.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / config.FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    write(tmp_path, 'db = "file.db"\nstudent = "file"\nteacher = "file"\njobs = 2\n')
    loaded = config.load(
        start=tmp_path,
        environment={"POTSTILL_STUDENT": "variable", "POTSTILL_TEACHER": "variable", "POTSTILL_MAX_COST": "2.5"},
        flags={"teacher": "flag", "jobs": None},
    )
    assert loaded.settings == config.Settings(
        db="file.db", student="variable", teacher="flag", jobs=2, max_cost=2.5, namespace="default"
    )
    assert [loaded.sources[name].value for name in ("namespace", "db", "student", "teacher")] == [
        "default",
        "file",
        "environment",
        "flag",
    ]
    assert loaded.given().keys() == {"db", "student", "teacher", "jobs", "max_cost"}


def test_the_nearest_file_above_counts(tmp_path: Path) -> None:
    write(tmp_path, 'db = "far.db"')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert config.load(start=deep, environment={}).settings.db == "far.db"
    write(tmp_path / "a", 'db = "near.db"')
    assert config.load(start=deep, environment={}).settings.db == "near.db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('db = "x"\n\nstudnt = "y"\n', r"potstill.toml:3: No setting named 'studnt'. Did you mean 'student'\?"),
        ('[run]\nstudent = "y"\n', r"potstill.toml:1: No setting named 'run'"),
        ('# jobs\njobs = "two"\n', r"potstill.toml:2: 'jobs' is 'two': Expected `int \| null`, got `str`"),
        ("jobs = \n", r"potstill.toml is not TOML: Invalid value \(at line 1, column 8\)"),
        (b"db = '\xff'", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / config.FILE_NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        config.load(start=tmp_path, environment={})


def test_a_mistake_in_a_variable_or_a_flag_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"POTSTILL_JOBS is 'many': Expected `int \| null`"):
        config.load(start=tmp_path, environment={"POTSTILL_JOBS": "many"})
    with pytest.raises(ConfigError, match="No setting named 'cost'"):
        config.load(start=tmp_path, environment={}, flags={"cost": 1})


def test_a_named_file_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"POTSTILL_CONFIG names 'absent.toml', which is not a file"):
        config.load(start=tmp_path, environment={"POTSTILL_CONFIG": "absent.toml"})


def test_strange_variables_are_reported_and_keys_are_not(tmp_path: Path) -> None:
    environment = {"POTSTILL_STUDNT": "x", "POTSTILL_HTTP_KEY": "secret", "POTSTILL_DEBUG": "1"}
    assert config.load(start=tmp_path, environment=environment).ignored == ("POTSTILL_STUDNT",)


def test_every_setting_is_explained_and_the_template_is_a_valid_file(tmp_path: Path) -> None:
    assert list(config.HELP) == list(config.Settings.__struct_fields__)
    tomllib.loads(config.template())
    given = "\n".join(line.removeprefix("# ") for line in config.template().splitlines() if " = " in line)
    assert tomllib.loads(given).keys() == set(config.Settings.__struct_fields__)
    (tmp_path / "potstill.toml").write_text(given)
    assert config.load(start=tmp_path, environment={}).settings.jobs == 1, "every value is of the setting's type"


def test_the_command_line_shows_and_starts_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(cli, ["config", "init"]).exit_code == 0
    again = runner.invoke(cli, ["config", "init"])
    assert isinstance(again.exception, ConfigError)
    assert "config init --force" in str(again.exception)
    assert runner.invoke(cli, ["config", "path"]).output.strip() == str(tmp_path / "potstill.toml")
    monkeypatch.setenv("POTSTILL_STUDENT", "local:x")
    shown = runner.invoke(cli, ["config", "show"]).stdout.splitlines()
    assert next(line for line in shown if line.startswith("student\t")).split("\t")[1:3] == ["local:x", "environment"]


def test_settings_are_defaults_of_the_options_with_their_names() -> None:
    import click

    @click.group()
    def group() -> None: ...

    @group.command()
    @click.option("--max-cost", "max_cost_usd", type=float)
    @click.option("--env", "environment")
    @click.option("--json", "json_mode", is_flag=True)
    def inner(**options: object) -> None: ...

    given = {"max_cost": 2.0, "env": "minigrid", "student": "local:x"}
    assert option_defaults(group, given) == {"inner": {"max_cost_usd": 2.0, "environment": "minigrid"}}


def test_a_setting_reaches_a_command_and_a_flag_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import click

    from potstill.cli import main as command_line

    @click.command()
    @click.option("--student", default="none")
    def toy(student: str) -> None:
        click.echo(student)

    monkeypatch.chdir(tmp_path)
    write(tmp_path, 'student = "from-file"')
    monkeypatch.setitem(command_line.SUBCOMMANDS, "toy", command_line.Subcommand("x:toy", "Toy."))
    monkeypatch.setattr(command_line, "load", lambda name: toy)
    assert CliRunner().invoke(cli, ["toy"]).output == "from-file\n"
    assert CliRunner().invoke(cli, ["toy", "--student", "flag"]).output == "flag\n"
