"""Finds what ``potstill compare`` was asked for: a run of the store, or the attempts of a model in a file.

What it knows: how sides are named. What it does not do: compare. Files are read once, also where both sides are in one.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from potstill.measure.comparison_sides import Entry, Side
    from potstill.measure.ledger import Pricing
    from potstill.measure.prices import PriceTable
    from potstill.trajectories import Store
    from potstill.types import Trajectory

_SQLITE = b"SQLite format 3\x00"
_HOW = "Name a run of the store (RUN or RUN:ARM, with --db) or a file (FILE#MODEL)."


class Sources:
    """Stores and files, opened as they are named. Use it in a ``with`` block."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._stack = ExitStack()
        self._store: Store | None = None
        self._files: dict[Path, _File] = {}
        self._prices: PriceTable | None = None

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def sides(self, names: list[str]) -> list[Side]:
        """The sides in the order of their names. Raises ``ConfigError`` for what is not there or not clear."""
        return [self._side(name) for name in names]

    @property
    def table(self) -> PriceTable:
        """The prices that the options ask for, loaded once."""
        if self._prices is None:
            from potstill.measure.prices import PriceTable

            options = self._options
            self._prices = PriceTable.load(options["prices"], options["date"], cpu_hour_usd=options["cpu_hour_usd"])
        return self._prices

    def _side(self, name: str) -> Side:
        found = split_file(name)
        if found is None:
            return self._of_store(name)
        path, wanted = found
        if path not in self._files:
            self._files[path] = _File(path, self.table, self._options)
        return self._files[path].side(name, wanted)

    # --- the store ------------------------------------------------------------------------------------------------

    def _of_store(self, name: str) -> Side:
        from potstill.measure.comparison_sides import entry_of_trajectory, side_of

        store = self._opened(name)
        pricing = self._pricing(store, self._run_and_arm(store, name)[0])
        entries = (
            entry_of_trajectory(episode, self.table, cache=self._options["cache"], pricing=pricing)
            for episode in self.episodes(name)
        )
        return side_of(name, entries)

    def episodes(self, name: str) -> Iterator[Trajectory]:
        """The whole episodes of a run of the store, one at a time."""
        store = self._opened(name)
        run, arm = self._run_and_arm(store, name)
        return store.select(run_id=run, arm=arm, namespace=self._options["namespace"])

    def _opened(self, name: str) -> Store:
        from potstill.errors import StoreError
        from potstill.trajectories.opening import is_url, read_store

        if self._store is None:
            path = self._options["db"]
            if not is_url(path) and not Path(path).expanduser().exists():
                raise StoreError(f"'{name}' is no file, and there is no store at {path} to look for a run in. {_HOW}")
            self._store = self._stack.enter_context(read_store(path))
        return self._store

    def _run_and_arm(self, store: Store, name: str) -> tuple[str, str | None]:
        arms: dict[str, dict[str, None]] = {}
        for row in store.summaries(namespace=self._options["namespace"]):
            arms.setdefault(row.run_id, {})[row.arm] = None
        names = {f"{run}:{arm}": (run, arm) for run, held in arms.items() for arm in held}
        if name in names:
            return names[name]
        if name not in arms:
            raise UnknownName("run or file", name, [*arms, *(key for key in names if len(arms[names[key][0]]) > 1)])
        if len(arms[name]) > 1:
            held = ", ".join(f"{name}:{arm}" for arm in arms[name])
            raise ConfigError(f"The run '{name}' has {len(arms[name])} arms. Name one: {held}.")
        return name, None

    def _pricing(self, store: Store, run: str) -> Pricing:
        from potstill.measure.ledger import Pricing

        planned: dict[str, Any] = {}
        for recorded in store.runs(namespace=self._options["namespace"]):
            if recorded.run_id == run:
                planned = recorded.config
        return Pricing(
            student_as=self._options["price_student_as"] or planned.get("price_student_as"),
            teacher_as=self._options["price_teacher_as"] or planned.get("price_teacher_as"),
        )


def split_file(name: str) -> tuple[Path, str | None] | None:
    """The file of ``FILE`` or ``FILE#MODEL`` and what of it is wanted; ``None`` where no such file is there.

    File names may hold a ``#`` too: the longest name that is a file is taken. Raises ``ConfigError`` for a store, and
    for a name that can only mean a file that is not there.
    """
    cuts = [len(name), *(at for at in range(len(name) - 1, 0, -1) if name[at] == "#")]
    for cut in cuts:
        path = Path(name[:cut]).expanduser()
        if path.is_file():
            _must_be_a_log(path, name)
            return path, name[cut + 1 :] or None
    if "#" in name and ("/" in name.split("#")[0] or Path(name.split("#")[0]).suffix):
        raise ConfigError(f"There is no file {name.split('#')[0]} (from '{name}'). {_HOW}")
    return None


def _must_be_a_log(path: Path, name: str) -> None:
    with path.open("rb") as opened:
        if opened.read(len(_SQLITE)) == _SQLITE:
            raise ConfigError(f"'{name}' is in a store. Type: --db {path}, and name its runs: RUN or RUN:ARM.")


# --- files ------------------------------------------------------------------------------------------------------------


class _File:
    """The attempts of one file, by model and run."""

    def __init__(self, path: Path, table: PriceTable, options: dict[str, Any]) -> None:
        self._path = path
        self._entries: dict[tuple[str, str], list[Entry]] = {}
        self._calls = 0
        self._skipped: list[str] = []
        self._read(table, options)

    def _read(self, table: PriceTable, options: dict[str, Any]) -> None:
        from potstill.logs.reader import read
        from potstill.logs.records import Attempt
        from potstill.measure.comparison_sides import entry_of

        recorded = options["costs"] == "recorded"
        reading = read([str(self._path)], format=options["format_name"])
        for record in reading:
            if isinstance(record, Attempt):
                entry = entry_of(record, table, recorded=recorded)
                self._entries.setdefault((record.model, record.run), []).append(entry)
            else:
                self._calls += 1
        for file in reading.files:
            for skips in file.skipped:
                lines = ", ".join(str(line) for line in skips.lines[:5])
                self._skipped.append(f"{file.path}: {skips.count} rows not understood ({skips.reason}), lines {lines}")
        if not self._entries:
            raise ConfigError(self._nothing())

    def _nothing(self) -> str:
        if self._calls:
            said = f"{self._path} holds {self._calls} model calls but no attempts with an outcome"
            return f"{said}: there is no success to compare. See the generic format in docs/reference/log-formats.md."
        return f"No attempt in {self._path} was understood. {' '.join(self._skipped)}"

    def side(self, name: str, wanted: str | None) -> Side:
        from potstill.measure.comparison_sides import side_of

        chosen = self._chosen(wanted)
        notes = list(self._skipped)
        if len(chosen) > 1:
            runs = ", ".join(f"'{run}'" for _, run in chosen[:4]) + (", ..." if len(chosen) > 4 else "")
            notes.append(f"{name} pools {len(chosen)} runs ({runs}); choose one with {self._path}#MODEL@RUN")
        return side_of(name, (entry for key in chosen for entry in self._entries[key]), notes)

    def _chosen(self, wanted: str | None) -> list[tuple[str, str]]:
        """The groups that are meant: all runs of the model, or one. Raises ``ConfigError``, ``UnknownName``."""
        models = list(dict.fromkeys(model for model, _ in self._entries))
        if wanted is None:
            if len(models) > 1:
                held = ", ".join(f"{self._path}#{model}" for model in models)
                raise ConfigError(f"{self._path} holds {len(models)} models. Name one: {held}.")
            wanted = models[0]
        exact = [key for key in self._entries if f"{key[0]}@{key[1]}" == wanted]
        found = exact or [key for key in self._entries if key[0] == wanted]
        if not found:
            known = [*models, *(f"{model}@{run}" for model, run in self._entries if run)]
            raise UnknownName(f"model in {self._path}", wanted, known)
        return found
