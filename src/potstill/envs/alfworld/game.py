"""Playing one game: ``FastGame`` and, through textworld's own classes, ``StockGame``. Both show the same bytes.

A game knows commands, their texts, what is true and whether it is won. It knows nothing of tasks,
experts or trajectories.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from potstill.envs.alfworld import libraries
from potstill.envs.alfworld.facts import NEGATION, Arguments, Facts, Mapping
from potstill.envs.alfworld.gamefile import GameFile
from potstill.envs.alfworld.grammar import Entity, Grammar, Narrator, compile_grammar
from potstill.envs.alfworld.translation import Translation, Translator
from potstill.errors import BadTask

NOTHING_HAPPENS = "Nothing happens."


class Frame(NamedTuple):
    """What a game shows after ``reset`` or ``step``. ``admissible`` is sorted and free of duplicates."""

    feedback: str
    admissible: tuple[str, ...]
    won: bool


class Fact(NamedTuple):
    """A fact in the names that the player sees; ``name`` and ``names`` are what ALFWorld's expert reads."""

    name: str
    names: tuple[str, ...]


class Game(Protocol):
    def load(self, game: GameFile) -> None:
        """Make this game the one that is played. Raises ``BadTask``."""

    def reset(self) -> Frame: ...

    def step(self, command: str) -> Frame: ...

    def facts(self, predicates: frozenset[str] | None = None) -> list[Fact]:
        """What is true now, of these predicates or of all, sorted."""

    def close(self) -> None: ...


class _Operator(NamedTuple):
    number: int
    effects: int
    action: str
    bound: Mapping


class FastGame:
    """The stock game without its repeated work: translation, parsing and unchanged texts are kept.

    ``cache_directory`` holds translations between processes (default: ``cache.default_directory()``).
    """

    def __init__(self, cache_directory: Path | None = None) -> None:
        self._translator = Translator(cache_directory)
        self._library: Any = None

    def load(self, game: GameFile) -> None:
        self._game = game
        self._grammar: Grammar = compile_grammar(game.grammar)
        self._translation: Translation = _translated(self._translator, game)
        self._library = self._library or libraries.borrow_engine()
        self._restart()
        self._entities = self._named_entities()
        self._narrator = Narrator(self._grammar, self._facts, self._entities)
        self._fresh = True

    def reset(self) -> Frame:
        if not self._fresh:
            self._restart()
            self._narrator = Narrator(self._grammar, self._facts, self._entities)
        self._fresh = False
        return self._frame(self._narrator.derive("#intro#", {}, ""))

    def step(self, command: str) -> Frame:
        name = self._commands.get(command.strip())
        if name is None:
            return self._frame(NOTHING_HAPPENS)
        operator = self._operators[name]
        self._apply(operator)
        return self._frame(self._narrator.derive(self._grammar.actions[operator.action].feedback, operator.bound, name))

    def facts(self, predicates: frozenset[str] | None = None) -> list[Fact]:
        return sorted(
            Fact(name, tuple(self._entities[argument].name for argument in arguments))
            for name, arguments in self._selected(predicates)
        )

    def close(self) -> None:
        if self._library is not None:
            libraries.return_engine(self._library)
            self._library = None

    def _restart(self) -> None:
        self._library.load_sas(self._translation.sas.encode())
        self._facts = Facts(self._translation.objects, libraries.type_hierarchy(self._translation.types))
        self._operators: dict[str, _Operator] = {}
        for name, arguments in self._translation.initial:
            self._facts.add(name, arguments)
        for name, arguments in self._atoms(self._library.get_state_size(), self._library.get_state):
            if not name.startswith(NEGATION):
                self._facts.add(name, arguments)

    def _named_entities(self) -> dict[str, Entity]:
        types = self._translation.objects
        mentioned = {argument for _, arguments in self._facts for argument in arguments}
        entities = {name: Entity(name, types[name], "") for name in sorted(mentioned)}
        shown = libraries.shown_names(entities)
        return {name: entity._replace(name=shown[name]) for name, entity in entities.items()}

    def _frame(self, feedback: str) -> Frame:
        commands: dict[str, str] = {}
        for name, operator in self._applicable():
            template = self._grammar.actions[operator.action].template
            commands.setdefault(self._narrator.derive(template, operator.bound, name), name)
        self._commands = commands
        return Frame(feedback, tuple(sorted(commands)), bool(self._library.check_goal()))

    def _applicable(self) -> Iterator[tuple[str, _Operator]]:
        found = (libraries.load("fast_downward").Operator * self._library.get_applicable_operators_count())()
        self._library.get_applicable_operators(found)
        seen = set()
        for item in found:
            name = item.name
            if name in seen:
                continue
            seen.add(name)
            operator = self._operators.get(name)
            if operator is None or operator.number != item.id:
                action, *arguments = name.split()
                bound = dict(zip(self._translation.parameters[action], arguments, strict=False))
                operator = self._operators[name] = _Operator(item.id, item.nb_effect_atoms, action, bound)
            yield name, operator

    def _apply(self, operator: _Operator) -> None:
        def fill(atoms: Any) -> None:
            self._library.apply_operator(operator.number, atoms)

        for name, arguments in list(self._atoms(operator.effects, fill)):
            self._facts.become(name, arguments)

    def _atoms(self, count: int, fill: Any) -> Iterator[tuple[str, Arguments]]:
        atoms = (libraries.load("fast_downward").Atom * count)()
        fill(atoms)
        for atom in atoms:
            kind, _, rest = atom.name.partition(" ")
            name, _, inside = rest.partition("(")
            arguments = tuple(argument for argument in inside[:-1].split(", ") if argument)
            yield (NEGATION + name if kind == "NegatedAtom" else name), arguments

    def _selected(self, predicates: frozenset[str] | None) -> Iterator[tuple[str, Arguments]]:
        if predicates is None:
            yield from self._facts
            return
        for name in sorted(predicates):
            for arguments in self._facts.named(name):
                yield name, arguments


def _translated(translator: Translator, game: GameFile) -> Translation:
    try:
        return translator.translate(game.pddl_domain, game.pddl_problem)
    except (SystemExit, Exception) as error:  # the translator exits on bad PDDL
        raise BadTask(f"The game's PDDL cannot be translated ({type(error).__name__}: {error}).") from error


class StockGame:
    """The same game through textworld's and alfworld's classes."""

    def __init__(self) -> None:
        self._environment = libraries.stock_environment()

    def load(self, game: GameFile) -> None:
        try:
            self._environment.load(
                {
                    "pddl_domain": game.pddl_domain,
                    "pddl_problem": game.pddl_problem,
                    "grammar": game.grammar,
                    "walkthrough": list(game.walkthrough),
                }
            )
        except (SystemExit, Exception) as error:
            raise BadTask(f"textworld cannot load the game ({type(error).__name__}: {error}).") from error

    def reset(self) -> Frame:
        self._state = self._environment.reset()
        return self._frame()

    def step(self, command: str) -> Frame:
        self._state = self._environment.step(command)[0]
        return self._frame()

    def facts(self, predicates: frozenset[str] | None = None) -> list[Fact]:
        facts = (Fact(fact.name, tuple(fact.names)) for fact in self._state["facts"])
        return sorted(fact for fact in facts if predicates is None or fact.name in predicates)

    def close(self) -> None:
        self._environment.close()

    def _frame(self) -> Frame:
        state = self._state
        return Frame(state.feedback, tuple(state["admissible_commands"]), bool(state["won"]))


def open_game(fast: bool = True, cache_directory: Path | None = None) -> Game:
    """The fast game where it was compared with the installed releases, else the stock one."""
    if fast and libraries.fast_path_allowed():
        return FastGame(cache_directory)
    if not fast:
        libraries.installed_versions()
    return StockGame()
