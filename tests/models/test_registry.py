"""A model is opened by its name, and a wrong name says the right one."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest

from potstill.errors import BadModelFile, ConfigError, PotstillError, UnknownName
from potstill.models.expert import ExpertModel
from potstill.models.http import HttpModel
from potstill.models.limits import RetryPolicy, Timeouts
from potstill.models.providers import PROVIDERS
from potstill.models.registry import list_models, open_model
from potstill.models.replay import ReplayModel
from potstill.models.scripted import ScriptedModel
from potstill.options import checked_options
from potstill.protocols import Model
from potstill.types import Answerer, Call, Reply


def echo(rest: str, *, loud: bool = False) -> Model:
    """What a plug-in's entry point names."""
    return ScriptedModel([rest.upper() if loud else rest], name=f"echo:{rest}")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="echo", value=f"{__name__}:echo", group="potstill.models")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == entry.group else [])


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("http:http://h:8000/v1#qwen/q:8b", "http:http://h:8000/v1#qwen/q:8b"),
        ("https://h/v1#q", "http:https://h/v1#q"),
        ("openai:gpt-6-luna", "openai:gpt-6-luna"),
        ("openrouter:anthropic/claude-haiku-5-5", "openrouter:anthropic/claude-haiku-5-5"),
        ("vllm:http://gpu:8000/v1#q", "vllm:http://gpu:8000/v1#q"),
        ("ollama:qwen3:8b", "ollama:qwen3:8b"),
    ],
)
def test_endpoints(spec: str, name: str) -> None:
    model = open_model(spec)
    assert isinstance(model, HttpModel)
    assert model.name == name
    assert open_model(name).name == name


def test_options_reach_the_model() -> None:
    model = open_model("http:http://h/v1#q", n_shares_prompt=True, timeouts={"total_s": 3}, retry=RetryPolicy())
    assert model.capabilities.n_shares_prompt
    with pytest.raises(UnknownName, match="Did you mean 'n_shares_prompt'"):
        open_model("openai:q", n_share_prompt=True)
    with pytest.raises(UnknownName, match="Did you mean 'total_s'"):
        open_model("openai:q", timeouts={"total": 3})
    with pytest.raises(ConfigError, match="timeouts"):
        open_model("openai:q", timeouts={"total_s": "long"})


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("openai:q", {"max_concurrency": "abc"}, "'max_concurrency' of openai:q is 'abc'; it must be a whole number"),
        ("openai:q", {"headers": "X-Key"}, "'headers' of openai:q is of the wrong kind; it must be a JSON object"),
        ("openai:q", {"omit": "seed"}, "a JSON list"),
        ("openai:q", {"n_shares_prompt": "yes"}, "true or false"),
        ("openai:q", {"idle_s": "long"}, "timeouts = "),
        (
            "local:smollm2-135m",
            {"threads": "abc"},
            "'threads' of local:smollm2-135m is 'abc'; it must be a whole number",
        ),
        ("local:smollm2-135m", {"samples": 2.5}, "a whole number"),
        ("local:smollm2-135m", {"timeout_s": "abc"}, "a number"),
        ("openai:q", {"rng": "abc"}, "only Python code can give"),
        ("replay:x.jsonl", {"wrap": 3}, "true or false"),
    ],
)
def test_a_value_of_a_wrong_type_names_the_option(spec: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_model(spec, **options)


def test_text_that_looks_like_a_number_stays_text_where_text_is_asked_for() -> None:
    assert checked_options("x", HttpModel, {"priced_as": 4, "max_concurrency": 4}) == {
        "priced_as": "4",
        "max_concurrency": 4,
    }


def test_time_outs_can_be_typed_one_by_one() -> None:
    """The hint of a time-out says so: ``idle_s=600``."""
    model = open_model("http:http://h/v1#q", idle_s=600, timeouts={"total_s": 900.0})
    assert isinstance(model, HttpModel)
    assert model._transport._timeouts == Timeouts(idle_s=600, total_s=900)
    with pytest.raises(UnknownName, match="Did you mean 'idle_s'"):
        open_model("http:http://h/v1#q", idl_s=600)


def test_experts_and_recordings(tmp_path: Path) -> None:
    assert isinstance(open_model("expert", priced_as="x"), ExpertModel)
    path = tmp_path / "calls.jsonl"
    calls = [Call(model=name, answerer=Answerer.TEACHER, replies=(Reply(text="a"),)) for name in ("m", "n")]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, calls)))
    model = open_model(f"replay:{path}#m", wrap=True)
    assert isinstance(model, ReplayModel)
    assert model.name == f"replay:{path}#m"


def test_a_plug_in_opens_and_is_listed(plugin: None) -> None:
    assert open_model("echo:hi").name == "echo:hi"
    with pytest.raises(UnknownName, match="Did you mean 'loud'"):
        open_model("echo:hi", lout=True)
    assert any(model.spec == "echo:..." for model in list_models())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("opnai:gpt", "Did you mean 'openai'"),
        ("", "No kind of model named ''"),
        ("smollm2-135m", "Type: local:smollm2-135m"),
        ("local:", "Type for example: local:smollm2-135m"),
        ("replay", "Type for example: replay:episodes.jsonl"),
        ("expert:x", "Type: expert"),
        ("python:own_model", "Type for example: python:own_model:open_matcher#words"),
        ("python:no_such_module_x:f", "no module 'no_such_module_x'"),
        ("python:json:lods", "Did you mean 'loads'"),
        ("openai:", "lacks a model"),
        ("http:", "lacks a model"),
        ("http:qwen", "lacks an address"),
        ("http:http://h/v1", "lacks a model"),
        ("http://h/v1#", "lacks a model"),
    ],
)
def test_a_wrong_name_says_what_to_type(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_model(spec)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_text("<html>")
    with pytest.raises(BadModelFile):
        open_model(f"local:{path}")


def test_everything_listed_can_be_named() -> None:
    specs = [model.spec for model in list_models()]
    assert len(specs) == len(set(specs))
    for provider in PROVIDERS:
        assert any(spec.startswith(f"{provider}:") for spec in specs)
    for model in list_models():
        if model.kind == "endpoint" and "URL" not in model.spec:
            assert open_model(model.spec).name == model.spec


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_the_table_of_providers_is_whole(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.key_variables
    assert provider.base_url.startswith("https://" if provider.key_required else ("http://", "")) or name == "http"
    assert not provider.base_url.endswith("/")
    if provider.n_shares_prompt:
        assert provider.max_n > 1


def test_opening_by_name_imports_no_other_kind() -> None:
    """llama.cpp, aiohttp and the like load when they are used, not when a name is looked up."""
    code = (
        "import sys; from potstill.models.registry import open_model; open_model('expert');"
        "print([name for name in ('aiohttp', 'xllamacpp', 'numpy.linalg', 'keyring') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded: list[Any] = [name for name in ("aiohttp", "xllamacpp", "keyring") if name in out]
    assert loaded == []


def test_errors_are_potstills_own(tmp_path: Path) -> None:
    with pytest.raises(PotstillError):
        open_model(f"replay:{tmp_path}")


def test_a_wrong_value_that_may_be_a_key_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="'headers'") as caught:
        checked_options("x", HttpModel, {"headers": '{"X-Api-Key": "abc123"}'})
    assert "abc123" not in str(caught.value)
