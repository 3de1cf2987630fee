"""Data on the disk: the same bytes for the same episodes, whole or not at all, and a changed file is named."""

from __future__ import annotations

import gc
import hashlib
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from data_episodes import ACTIONS, episode, house_episodes, step

from potstill import zstandard
from potstill.distill.weights.data import Manifest, build, digest_of, read, read_manifest, refuse_leakage, write
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.shards import BadData, verify
from potstill.errors import ConfigError, StoreError, UnknownName
from potstill.trajectories import Store
from potstill.types import Answerer, Call, Message, Outcome, Trajectory

ALL = {"train": 1.0}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_holds_what_is_built_in_memory(tmp_path: Path) -> None:
    episodes = house_episodes(25)
    manifest = write(iter(episodes), tmp_path / "data", equal="drop", shard_bytes=20_000)
    built = build(episodes, equal="drop")
    assert {name: list(read(tmp_path / "data", name)) for name in manifest.splits} == built.splits
    assert list(read(tmp_path / "data")) == [one for some in built.splits.values() for one in some]
    assert manifest.report == built.report
    assert read_manifest(tmp_path / "data") == manifest == verify(tmp_path / "data")
    train = manifest.splits["train"]
    assert len(train.shards) > 2
    assert all(20_000 <= shard.bytes < 30_000 for shard in train.shards[:-1])
    assert train.decisions == len(built.splits["train"])
    assert train.tasks == train.episodes == len({one.task_id for one in built.splits["train"]})
    assert train.actions == len({one.action for one in built.splits["train"]})
    refuse_leakage({name: read(tmp_path / "data", name) for name in manifest.splits})


def test_the_same_episodes_give_the_same_bytes_in_whatever_order(tmp_path: Path) -> None:
    episodes = house_episodes(12)
    first = write(episodes, tmp_path / "one", equal="drop")
    second = write(random.Random(1).sample(episodes, 12), tmp_path / "two", equal="drop")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert digest_of(first) == digest_of(second)
    fewer = write(episodes[1:], tmp_path / "three", equal="drop")
    assert digest_of(fewer) != digest_of(first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]


def test_the_store_is_read_as_it_goes(tmp_path: Path) -> None:
    episodes = house_episodes(6)
    with Store.open(tmp_path / "db") as store:
        for one in episodes:
            store.append(one)
        store.append(episode("acme", namespace="acme"))
        write(store.select(), tmp_path / "stored", fractions=ALL)
    write(episodes, tmp_path / "given", fractions=ALL)
    assert files(tmp_path / "stored") == files(tmp_path / "given")


def test_the_manifest_says_who_taught_with_which_prompts(tmp_path: Path) -> None:
    call = Call(model="m", answerer=Answerer.TEACHER, prompt=(Message(role="system", content="Act."),))
    some = [
        episode("a", [step(0, "look", calls=(call,)), step(1, "go north", calls=(call,))], run_id="r", arm="teacher"),
        episode("b", ["look"], teacher="gpt", student="small", outcome=Outcome(success=False)),
    ]
    found = write(some, tmp_path / "data", fractions=ALL).sources
    assert found.teachers == {"expert": 1, "gpt": 1}
    assert (found.students, found.runs, found.arms, found.environments) == (
        {"small": 1},
        {"r": 1},
        {"teacher": 1},
        {"house": 2},
    )
    assert list(found.prompts.values()) == [2]
    assert found.episodes_sha256 == hashlib.sha256(b"a\nb\n").hexdigest()


# --- changed files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(house_episodes(10), tmp_path / "data", fractions=ALL, shard_bytes=10_000)
    return tmp_path / "data"


def second_shard(folder: Path) -> Path:
    return folder / read_manifest(folder).splits["train"].shards[1].file


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def reword(path: Path) -> None:
    lines = zstandard.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(zstandard.compress(b"".join([lines[0].replace(b'"weight":', b'"weight":1'), *lines[1:]])))


def repeat(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit": flip,
    "a word": reword,
    "twice": repeat,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_shard_is_named(folder: Path, change: Callable[[Path], object]) -> None:
    shard = second_shard(folder)
    change(shard)
    with pytest.raises(BadData, match=shard.name):
        verify(folder)


def test_two_shards_that_changed_places_are_named(folder: Path) -> None:
    one, two = (folder / shard.file for shard in read_manifest(folder).splits["train"].shards[:2])
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(BadData, match=one.name):
        verify(folder)


def test_another_compression_of_the_same_lines_is_no_change(folder: Path) -> None:
    shard = second_shard(folder)
    before = list(read(folder))
    shard.write_bytes(zstandard.compress(zstandard.decompress(shard.read_bytes()), 1))
    assert list(read(folder)) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format":"other","version":1}', "is 'other' version 1; this potstill reads 'potstill/decisions'"),
        (b'{"format":"potstill/decisions","version":2}', "version 2; this potstill reads"),
        (b'{"format":"potstill/decisions","version":1}', "is damaged"),
    ],
)
def test_a_bad_manifest_is_said(folder: Path, text: bytes, said: str) -> None:
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(BadData, match=said):
        list(read(folder))


def test_a_manifest_with_another_count_is_found(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"episodes": 10,', b'"episodes":  10,', 1))
    with pytest.raises(BadData, match="was changed"):
        read_manifest(folder)


def test_a_folder_or_split_that_is_not_there_is_said(folder: Path) -> None:
    with pytest.raises(BadData, match="holds no data to learn from"):
        read_manifest(folder / "nowhere")
    with pytest.raises(UnknownName, match=r"No split in .* named 'valid'\. Available: train"):
        list(read(folder, "valid"))


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path, folder: Path) -> None:
    before = files(folder)
    write(house_episodes(10), folder, fractions=ALL, shard_bytes=10_000)
    assert files(folder) == before
    with pytest.raises(ConfigError, match="holds other data already"):
        write(house_episodes(9), folder, fractions=ALL)
    assert files(folder) == before
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no data of ours"):
        write(house_episodes(2), used, fractions=ALL)
    (tmp_path / "empty").mkdir()
    write(house_episodes(2), tmp_path / "empty", fractions=ALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "empty", "used"]


def test_what_is_interrupted_or_refused_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> Iterator[Trajectory]:
        yield from house_episodes(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(stopped(), tmp_path / "data")
    with pytest.raises(ConfigError, match="No episode"):
        write([], tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="Cannot write"):
        write(house_episodes(2), tmp_path / "file" / "data", fractions=ALL)


def many(count: int) -> Iterator[Trajectory]:
    """Episodes of ten steps with long sights, each made when it is asked for."""
    for number in range(count):
        sights = [f"{number} {at} " + "a long corridor with many doors " * 30 for at in range(10)]
        yield episode(f"e{number:06}", [step(at, ACTIONS[at % 3], sight=sight) for at, sight in enumerate(sights)])


def most_memory(count: int, folder: Path) -> tuple[int, Manifest]:
    gc.collect()
    tracemalloc.start()
    manifest = write(many(count), folder, fractions=ALL, shard_bytes=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, manifest


def test_memory_grows_with_keys_and_not_with_texts(tmp_path: Path) -> None:
    """A decision here has some 6,000 characters on average; what is remembered of it are some hundred bytes."""
    small, _ = most_memory(20, tmp_path / "small")
    large, manifest = most_memory(120, tmp_path / "large")
    more = 100 * 10
    assert sum(shard.bytes for shard in manifest.splits["train"].shards) / 1200 > 4000
    assert (large - small) / more < 1000
    decoded: list[Labelled] = list(read(tmp_path / "large"))
    assert len(decoded) == 1200
    assert msgspec.json.encode(decoded[-1]).count(b"corridor") == 300
