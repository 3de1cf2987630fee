"""A gateway does not start where it would show a tuned student what it was not tuned with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from potstill.errors import ConfigError
from potstill.models.tuned_file import Base, Tuned, Voice
from potstill.serve import settings_file
from potstill.serve.settings import Mode

TEACHER, STUDENT = "http://127.0.0.1:1/v1#big", "http://127.0.0.1:2/v1#small"


def folder(path: Path, *, demonstrations: int = 0) -> str:
    path.mkdir()
    tuned = Tuned(
        base=Base(name="tiny", sha256="0" * 64), template="chat", environment="house-rules", instructions="Act.",
        voice=Voice(), demonstrations=demonstrations, files={},
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


def test_a_folder_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"over HTTP\. .*--merged.* --tuned student-lm"):
        settings_file.from_flags(TEACHER, "tuned:student-lm", mode=Mode.SHADOW)
    with pytest.raises(ConfigError, match="there is none"):
        settings_file.from_flags(TEACHER, tuned=folder(tmp_path / "student"))
