"""A gateway does not start where it would show a tuned student what it was not tuned with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from potstill.errors import ConfigError
from potstill.models.tuned_file import Base, Tuned, Voice
from potstill.serve import settings_file
from potstill.serve.rollout.trust import Trust, trust_of
from potstill.serve.settings import Mode

TEACHER, STUDENT = "http://127.0.0.1:1/v1#big", "http://127.0.0.1:2/v1#small"


def folder(path: Path, *, demonstrations: int = 0, voice: Voice = Voice()) -> str:  # noqa: B008
    path.mkdir()
    tuned = Tuned(
        base=Base(name="tiny", sha256="0" * 64), template="chat", environment="house-rules", instructions="Act.",
        voice=voice, demonstrations=demonstrations, files={},
    )  # fmt: skip
    (path / "student.json").write_bytes(msgspec.json.encode(tuned))
    return str(path)


def test_flags_that_would_show_a_playbook_are_refused(tmp_path: Path) -> None:
    tuned = folder(tmp_path / "student")
    told = {"mode": Mode.SHADOW, "tuned": tuned}
    with pytest.raises(ConfigError, match=r"shows its student a playbook, .*--allow-demonstrations") as error:
        settings_file.from_flags(TEACHER, STUDENT, playbook="book", **told)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    settings_file.from_flags(TEACHER, STUDENT, **told)  # type: ignore[arg-type]
    settings_file.from_flags(TEACHER, STUDENT, playbook="book", allow_demonstrations=True, **told)  # type: ignore[arg-type]


def test_a_file_that_would_show_demonstrations_is_refused(tmp_path: Path) -> None:
    text = """
[upstreams.a]
base_url = "http://127.0.0.1:1/v1"
[models.big]
upstream = "a"
model = "big"
[models.small]
upstream = "a"
model = "small"
tuned = "{tuned}"
{more}
[routes.agent]
teacher = "big"
student = "small"
mode = "cascade"
context = {{ k = {k} }}
"""

    def read(**fields: object) -> None:
        file = tmp_path / "gateway.toml"
        file.write_text(text.format(**{"more": "", "k": 3, **fields}))
        settings_file.read(str(file))

    plain, shown = folder(tmp_path / "plain"), folder(tmp_path / "shown", demonstrations=3)
    with pytest.raises(ConfigError, match="the route 'agent' shows its student demonstrations"):
        read(tuned=plain)
    read(tuned=plain, k=0)
    read(tuned=plain, more="allow_demonstrations = true")
    read(tuned=shown)
    with pytest.raises(ConfigError, match="holds no tuned student"):
        read(tuned=tmp_path)


def test_a_tuned_student_is_named_as_elsewhere(tmp_path: Path) -> None:
    tuned = folder(tmp_path / "student")
    settings = settings_file.from_flags(TEACHER, f"tuned:{tuned}", mode=Mode.SHADOW)
    (model,) = [one for one in settings.models if one.name == "student"]
    assert (model.runs_here, model.tuned, model.upstream, model.title) == (True, tuned, "", f"tuned:{tuned}")
    assert [one.name for one in settings.upstreams] == ["teacher"]
    served = settings_file.from_flags(TEACHER, STUDENT, mode=Mode.SHADOW, tuned=tuned).models[-1]
    assert (served.runs_here, served.title) == (False, "small")


def test_what_a_tuned_student_cannot_be(tmp_path: Path) -> None:
    tuned = folder(tmp_path / "student")
    with pytest.raises(ConfigError, match=r"can be the student alone: .* Type: --student tuned:"):
        settings_file.from_flags(f"tuned:{tuned}")
    with pytest.raises(ConfigError, match="holds no tuned student"):
        settings_file.from_flags(TEACHER, f"tuned:{tmp_path / 'other'}", mode=Mode.SHADOW)
    with pytest.raises(ConfigError, match="Leave --tuned"):
        settings_file.from_flags(TEACHER, f"tuned:{tuned}", tuned=tuned)
    with pytest.raises(ConfigError, match="shows its student a playbook"):
        settings_file.from_flags(TEACHER, f"tuned:{tuned}", playbook="book", mode=Mode.SHADOW)
    with pytest.raises(ConfigError, match="there is none"):
        settings_file.from_flags(TEACHER, tuned=tuned)


@pytest.mark.parametrize(
    ("route", "model", "words"),
    [
        ({"teacher": "small"}, {}, "has the tuned model 'small' as teacher"),
        ({"context": {"k": 2}}, {"allow_demonstrations": True}, "goal, history and observation alone"),
        ({}, {"model": "x"}, "a model without an upstream"),
    ],
)
def test_routes_that_mean_nothing(
    tmp_path: Path, route: dict[str, object], model: dict[str, object], words: str
) -> None:
    tables = {
        "upstreams": {"a": {"base_url": "http://127.0.0.1:1/v1"}},
        "models": {
            "big": {"upstream": "a", "model": "big"},
            "small": {"tuned": folder(tmp_path / "student"), **model},
        },
        "routes": {
            "agent": {
                "teacher": "big",
                "student": "small",
                "mode": "cascade",
                "actions": {"tool": "act", "argument": "action"},
                **route,
            }
        },
    }
    with pytest.raises(ConfigError, match=words) as error:
        settings_file.parse(tables, "gateway.toml")
    assert "\n" not in str(error.value)


def test_a_student_that_learnt_with_past_reasoning_weighs_nothing(tmp_path: Path) -> None:
    tables = {
        "upstreams": {"a": {"base_url": "http://127.0.0.1:1/v1"}},
        "models": {
            "big": {"upstream": "a", "model": "big"},
            "small": {"tuned": folder(tmp_path / "student", voice=Voice(reasoning="with-action"))},
        },
        "routes": {
            "agent": {"teacher": "big", "student": "small", "mode": "shadow", "actions": {"always": ["left", "right"]}}
        },
    }
    with pytest.raises(ConfigError, match="past turns with the reasoning of each"):
        settings_file.parse(tables, "gateway.toml")


def test_a_tuned_student_in_a_file_is_the_same_by_both_its_names(tmp_path: Path) -> None:
    place = folder(tmp_path / "student")

    def read(tuned: str) -> Trust:
        file = tmp_path / "gateway.toml"
        file.write_text(
            '[upstreams.a]\nbase_url = "http://127.0.0.1:1/v1"\n[models.big]\nupstream = "a"\nmodel = "big"\n'
            f'[models.small]\ntuned = "{tuned}"\n'
            '[routes.agent]\nteacher = "big"\nstudent = "small"\nmode = "cascade"\n'
        )
        settings = settings_file.read(str(file))
        return trust_of(settings.routes[0], settings)

    by_path, by_spec = read(place), read(f"tuned:{place}")
    assert by_path.policy_sha256 == hashlib.sha256((tmp_path / "student" / "student.json").read_bytes()).hexdigest()
    assert by_spec == by_path
    assert by_spec.student is not None
    assert by_spec.student.title == f"tuned:{place}"
