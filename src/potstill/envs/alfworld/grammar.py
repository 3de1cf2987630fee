"""The text of a game: its context-sensitive grammar, compiled once, and derivations that are kept while they hold.

textworld's parser reads the grammar; here it is compiled to small nodes and evaluated against the facts, with the
same result as textworld's derivation. Expressions of a game file are looked up, not evaluated as Python: attributes of
entities, joined by ``+`` and ``or``; anything else is a ``BadTask``. It does not know commands or steps.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from potstill.envs.alfworld import libraries
from potstill.envs.alfworld.facts import Facts, Mapping, parse_query
from potstill.errors import BadTask, EnvError

TASK_RULE = re.compile(r'("rhs": ")(Your task is to: [^"\\;|<>\[\]#{}]*)(")')
"""The one line in which ALFWorld's grammars differ; only texts that the grammar takes literally are cut out."""
TASK_PLACEHOLDER = "Your task is to: ."
MAX_DEPTH = 200
"""Rules within rules beyond this are a grammar that never ends."""


class Entity(NamedTuple):
    """An object of the game as the grammar's expressions see it."""

    id: str
    type: str
    name: str
    indefinite: str = "a"
    definite: str = "the"


Variables = dict[str, Entity]
Value = Callable[[Variables], str]


class Literal(NamedTuple):
    text: str


class Call(NamedTuple):
    rule: str


class Expression(NamedTuple):
    value: Value


class Each(NamedTuple):
    """The body once for each answer to the query (once, where there is no query)."""

    body: Call | Expression
    query: str


class Listing(NamedTuple):
    """What ``each`` gives, with the grammar's separators between."""

    each: Each


Node = Literal | Call | Expression | Each | Listing


class Alternative(NamedTuple):
    condition: str
    nodes: tuple[Node, ...]


class ActionText(NamedTuple):
    template: str
    feedback: str


class Grammar(NamedTuple):
    rules: dict[str, tuple[Alternative, ...]]
    actions: dict[str, ActionText]


def compile_grammar(document: str) -> Grammar:
    """Compile a game's grammar document. Raises ``BadTask`` where it is not one."""
    tasks = TASK_RULE.findall(document)
    if len(tasks) != 1:
        return _compile(document)
    grammar = _compile(TASK_RULE.sub(rf"\g<1>{TASK_PLACEHOLDER}\g<3>", document))
    rules = {
        name: tuple(_with_task(alternative, tasks[0][1]) for alternative in alternatives)
        for name, alternatives in grammar.rules.items()
    }
    return grammar._replace(rules=rules)


def _with_task(alternative: Alternative, task: str) -> Alternative:
    nodes = tuple(Literal(task) if node == Literal(TASK_PLACEHOLDER) else node for node in alternative.nodes)
    return alternative._replace(nodes=nodes)


@lru_cache(maxsize=8)
def _compile(document: str) -> Grammar:
    try:
        logic = libraries.parse_document(document)
    except Exception as error:  # the parser raises its own families of errors, JSON's and ours
        first_line = str(error).strip().partition("\n")[0]
        raise BadTask(f"The game's grammar cannot be read ({type(error).__name__}: {first_line})") from error
    rules = {
        name: tuple(Alternative(rule.condition or "", _nodes(rule.rhs)) for rule in alternatives)
        for name, alternatives in libraries.production_rules(logic).items()
    }
    return Grammar(rules, {name: ActionText(a.template, a.feedback_rule) for name, a in logic.actions.items()})


@lru_cache(maxsize=1024)
def _start(text: str) -> tuple[Node, ...]:
    return _nodes(libraries.parse_symbols(text))


def _nodes(symbols: list[Any]) -> tuple[Node, ...]:
    return tuple(_node(symbol) for symbol in symbols)


def _node(symbol: Any) -> Node:
    kind = type(symbol).__name__
    if kind == "TerminalSymbol":
        return Literal(str(symbol.symbol))
    if kind == "ListSymbol":
        return Listing(_each(symbol.symbol))
    if kind == "ConditionalSymbol":
        return _each(symbol)
    return _body(symbol)


def _each(symbol: Any) -> Each:
    return Each(_body(symbol.expression), symbol.given or "")


def _body(symbol: Any) -> Call | Expression:
    if type(symbol).__name__ == "NonterminalSymbol":
        return Call(str(symbol.symbol))
    return Expression(_value(str(symbol.expression)))


@lru_cache(maxsize=1024)
def _value(expression: str) -> Value:
    try:
        return _evaluator(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BadTask(
            f"The game's grammar has the expression {expression!r}; allowed are names of entities, their attributes "
            f"({', '.join(Entity._fields)}), texts, '+' and 'or'."
        ) from error


def _evaluator(tree: ast.expr) -> Value:
    match tree:
        case ast.Name(id=name):
            return lambda variables: variables[name].name
        case ast.Attribute(value=ast.Name(id=name), attr=field) if field in Entity._fields:
            return lambda variables: str(getattr(variables[name], field))
        case ast.Constant(value=str(text)):
            return lambda variables: text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _evaluator(left), _evaluator(right)
            return lambda variables: first(variables) + second(variables)
        case ast.BoolOp(op=ast.Or(), values=values):
            parts = [_evaluator(value) for value in values]
            return lambda variables: next(filter(None, (part(variables) for part in parts)), "")
    raise ValueError(ast.dump(tree))


class Narrator:
    """Derives texts of one game from its grammar and facts; a text is derived again only when its facts changed."""

    def __init__(self, grammar: Grammar, facts: Facts, entities: dict[str, Entity]) -> None:
        self._grammar = grammar
        self._facts = facts
        self._entities = entities
        self._kept: dict[tuple[str, str], tuple[str, dict[str, int]]] = {}
        self._asked: dict[str, int] = {}

    def derive(self, start: str, bound: Mapping, key: str) -> str:
        """The text of ``start``; ``key`` names the binding (one key, one binding, for the life of this object)."""
        kept = self._kept.get((start, key))
        if kept is not None and all(self._facts.versions[name] == version for name, version in kept[1].items()):
            return kept[0]
        self._asked = {}
        try:
            text = "".join(self._texts(_start(start), bound, self._variables(bound), 0))
        except KeyError as error:
            raise EnvError(f"The game's grammar uses the unknown name {error} in deriving {start!r}.") from error
        self._kept[start, key] = (text, self._asked)
        return text

    def _variables(self, bound: Mapping) -> Variables:
        return {name: self._entities[entity] for (name, _), entity in bound.items()}

    def _matches(self, query: str, bound: Mapping) -> Iterator[Mapping]:
        conditions = parse_query(query)
        for name, _ in conditions:
            self._asked[name] = self._facts.versions[name]
        return self._facts.matches(conditions, bound)

    def _texts(self, nodes: tuple[Node, ...], bound: Mapping, variables: Variables, depth: int) -> Iterator[str]:
        for node in nodes:
            match node:
                case Literal(text):
                    yield text
                case Listing(each):
                    yield self._listing(list(self._each(each, bound, variables, depth)), bound, variables, depth)
                case Each():
                    yield from self._each(node, bound, variables, depth)
                case Call() | Expression():
                    yield self._text(node, bound, variables, depth)

    def _text(self, body: Call | Expression, bound: Mapping, variables: Variables, depth: int) -> str:
        if isinstance(body, Expression):
            return body.value(variables)
        if depth > MAX_DEPTH:
            raise EnvError(f"The game's grammar never ends: rule '{body.rule}' within itself.")
        for alternative in self._grammar.rules[body.rule]:
            if not alternative.condition or any(True for _ in self._matches(alternative.condition, bound)):
                return "".join(self._texts(alternative.nodes, bound, variables, depth + 1))
        raise EnvError(f"No alternative of the game's rule '{body.rule}' holds now.")

    def _each(self, each: Each, bound: Mapping, variables: Variables, depth: int) -> Iterator[str]:
        if not each.query:
            yield self._text(each.body, bound, variables, depth)
            return
        for answer in self._matches(each.query, bound):
            yield self._text(each.body, answer, variables | self._variables(answer), depth)

    def _listing(self, items: list[str], bound: Mapping, variables: Variables, depth: int) -> str:
        if len(items) == 1:
            return items[0]
        if not items:
            return self._text(Call("list_empty"), bound, variables, depth)
        separator = self._text(Call("list_separator"), bound, variables, depth)
        last = self._text(Call("list_last_separator"), bound, variables, depth)
        return separator.join(items[:-1]) + last + items[-1]
