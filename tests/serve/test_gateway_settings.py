"""The gateway's file: what is read, and what every mistake is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from potstill.errors import ConfigError
from potstill.serve import settings as told
from potstill.serve.server import GatewayServer
from potstill.serve.settings_file import from_flags, parse, read

FILE = """
[gateway]
port = 9000
passthrough = "openai"

[upstreams.openai]
base_url = "https://api.openai.com/v1"
key_env = "OPENAI_API_KEY"

[upstreams.near]
base_url = "http://localhost:8080/v1"
n_shares_prompt = true

[models.big]
upstream = "openai"
model = "gpt-6.1-sol"

[models.small]
upstream = "near"
model = "qwen"
price_as = "gpt-6-luna"

[routes."potstill/auto"]
teacher = "big"
student = "small"
mode = "cascade"
[routes."potstill/auto".cascade]
samples = 2

[tenants.acme]
budget_usd_per_day = 5.0
models = ["potstill/auto"]

[limits]
max_inflight = 10

[recording]
strict = true
overflow = "drop"
"""


def test_a_file_with_everything(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE)
    settings = read(path)
    assert (settings.port, settings.passthrough, settings.limits.max_inflight) == (9000, "openai", 10)
    (route,) = settings.routes
    assert (route.name, route.mode, route.cascade.samples) == ("potstill/auto", told.Mode.CASCADE, 2)
    assert settings.models[1].price_as == "gpt-6-luna"
    assert settings.tenants[0].name == "acme"
    assert settings.recording.overflow is told.Overflow.DROP


UPSTREAM = {"u": {"base_url": "http://h/v1"}}
MODEL = {"m": {"upstream": "u", "model": "x"}}
ROUTE = {"r": {"teacher": "m"}}
GOOD = {"upstreams": UPSTREAM, "models": MODEL, "routes": ROUTE}


@pytest.mark.parametrize(
    ("tables", "word"),
    [
        ({**GOOD, "upstream": {}}, "Did you mean 'upstreams'?"),
        ({**GOOD, "gateway": {"prot": 1}}, "Did you mean 'port'?"),
        ({**GOOD, "upstreams": {"u": {"base_url": "http://h/v1", "key": "x"}}}, "No setting at upstreams.u"),
        ({**GOOD, "routes": {"r": {"teacher": "mm"}}}, "Did you mean 'm'?"),
        ({**GOOD, "models": {"m": {"upstream": "v", "model": "x"}}}, "upstream (of the model 'm' in here)"),
        ({**GOOD, "routes": {"r": {"teacher": "m", "mode": "cascade"}}}, "has no student"),
        ({**GOOD, "routes": {"r": {"teacher": "m", "cascade": {"sample": 1}}}}, "Did you mean 'samples'?"),
        ({**GOOD, "upstreams": {"u": {"base_url": "h/v1"}}}, "must look like https://HOST/v1"),
        ({**GOOD, "upstreams": {"u": {"base_url": "http://a:b@h/v1"}}}, "holds a key"),
        ({**GOOD, "upstreams": {"u": {"base_url": "http://h/v1", "dialect": "openai"}}}, "No dialect"),
        ({**GOOD, "upstreams": {"u": {"base_url": "http://h/v1", "key_env": "sk-proj-1"}}}, "name of an environment"),
        ({**GOOD, "gateway": {"admin_key_env": "my key"}}, "admin_key_env must be the name of"),
        ({**GOOD, "gateway": {"port": "8000"}}, "Expected `int`"),
        ({**GOOD, "gateway": {"default_route": "s"}}, "No route"),
        ({**GOOD, "limits": {"max_inflight": 0}}, "must be above 0"),
        ({**GOOD, "tenants": {"t": {"models": ["s*t"]}}}, "or the beginning of such names and '*'"),
        ({"upstreams": UPSTREAM}, "has no route"),
        ({**GOOD, "upstreams": [1]}, "[upstreams.NAME]"),
        (
            {
                **GOOD,
                "gateway": {"keys_required": True},
                "upstreams": {"u": {"base_url": "http://h/v1", "pass_key": True}},
            },
            "pass_key",
        ),
    ],
)
def test_mistakes_are_told_with_what_is_allowed(tables, word: str) -> None:
    with pytest.raises(ConfigError, match=r"here|gateway") as caught:
        parse(tables, "here")
    assert word in str(caught.value)
    assert "sk-proj-1" not in str(caught.value)


def test_flags_make_a_route_for_every_name() -> None:
    settings = from_flags("http://h/v1#big", "http://s/v1#small")
    assert settings.default_route == settings.routes[0].name
    assert settings.routes[0].mode is told.Mode.SHADOW
    assert from_flags("http://h/v1").passthrough == "teacher"
    for teacher, student in (("h/v1#m", None), ("http://h/v1#m", "http://s/v1"), ("http://h/v1", "http://s/v1#m")):
        with pytest.raises(ConfigError, match="Type: --"):
            from_flags(teacher, student)


def test_keys_are_needed_where_others_can_reach_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "k" * 20)
    settings = from_flags("http://h/v1#m", key_env="TEST_KEY")
    everywhere = msgspec.structs.replace(settings, host="0.0.0.0")
    for key in (None, "short", "sk-1234", "password-password"):
        with pytest.raises(ConfigError, match="admin key"):
            GatewayServer(everywhere, admin_key=key)
    GatewayServer(everywhere, admin_key="oX7-2kfLqP9zR4tVbN8wAa")
    with pytest.raises(ConfigError, match="pass_key"):
        from_flags("http://h/v1#m", host="0.0.0.0")


def test_a_key_that_is_not_set_is_told_at_the_start(start) -> None:
    with pytest.raises(ConfigError, match="NOT_SET_KEY, which is not set"):
        start(from_flags("http://h/v1#m", key_env="NOT_SET_KEY"))


def test_every_setting_is_in_the_reference(repository: Path) -> None:
    page = (repository / "docs" / "reference" / "gateway-settings.md").read_text()
    structs = (told.Gateway, told.Upstream, told.Model, told.Route, told.Cascade, told.Context, told.Playbook)
    for struct in (*structs, told.Tenant, told.Limits, told.Recording):
        for name in struct.__struct_fields__:
            if name != "name" and f"[{name}" not in page and f".{name}]" not in page:
                assert f"`{name}`" in page, f"{struct.__name__}.{name} is not described"
