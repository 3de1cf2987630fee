"""The next command that leads to the goal from any state, by rules for ALFWorld's six kinds of task.

It reads the facts, so it knows where everything is (a player does not): the oracle where an episode left the
walkthrough, and the help of an expert that is lost. It does not search: rooms have no locks, so each sub-goal is
reached by going, opening and acting. (fast-downward's planner finds such plans too, in up to half a minute a plan.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from potstill.envs.alfworld.game import Fact
from potstill.envs.alfworld.gamefile import Parameters

READS = frozenset(
    {"holds", "inreceptacle", "isclean", "ishot", "iscool", "full", "cancontain", "receptacletype", "objecttype"}
)
"""The predicates that the rules read."""


class Treatment(NamedTuple):
    """What makes an object as the task wants it: the fact that holds then, the verb, where it is done."""

    predicate: str
    verb: str
    stations: tuple[str, ...]
    """Kinds of places, the first that the room has."""


TREATMENTS = {
    "pick_clean_then_place_in_recep": Treatment("isclean", "clean", ("sinkbasin", "bathtubbasin")),
    "pick_heat_then_place_in_recep": Treatment("ishot", "heat", ("microwave",)),
    "pick_cool_then_place_in_recep": Treatment("iscool", "cool", ("fridge",)),
}


class World:
    """The facts as tables by shown name."""

    def __init__(self, facts: Iterable[Fact], admissible: Sequence[str]) -> None:
        rows: dict[str, list[Any]] = {name: [] for name in READS}
        for fact in facts:
            rows[fact.name].append(fact.names)
        self.admissible = frozenset(admissible)
        self.held: str | None = next((names[1] for names in rows["holds"]), None)
        self.lies_in: dict[str, str] = dict(rows["inreceptacle"])
        self.places: dict[str, str] = dict(rows["receptacletype"])
        self.kinds: dict[str, str] = dict(rows["objecttype"])
        self.treated = {name: {names[0] for names in rows[name]} for name in ("isclean", "ishot", "iscool")}
        self._full = {names[0] for names in rows["full"]}
        self._can_contain = set(rows["cancontain"])

    def takers(self, thing: str) -> list[str]:
        """Places with room that may hold the thing."""
        kind = self.kinds.get(thing)
        return [
            place
            for place, place_kind in self.places.items()
            if place not in self._full and (place_kind, kind) in self._can_contain
        ]

    def reach(self, options: Sequence[tuple[str, str]]) -> str | None:
        """The first of the (place, command) options that can be done now, else what brings the first of them nearer."""
        for _, command in options:
            if command in self.admissible:
                return command
        for place, _ in options:
            for nearer in (f"go to {place}", f"open {place}"):
                if nearer in self.admissible:
                    return nearer
        return None


def next_command(parameters: Parameters, facts: Iterable[Fact], admissible: Sequence[str]) -> str | None:
    """The next command towards the goal, or None where the rules see no way."""
    world = World(facts, admissible)
    if world.held is None:
        return _fetch(parameters, world)
    if _class(world.held) != parameters.object.lower():
        return _put_down(world, world.held)
    if parameters.kind == "look_at_obj_in_light":
        return _use_lamp(parameters, world)
    treatment = TREATMENTS.get(parameters.kind)
    if treatment is not None and world.held not in world.treated[treatment.predicate]:
        return _treat(treatment, world, world.held)
    return _deliver(parameters, world, world.held)


def _fetch(parameters: Parameters, world: World) -> str | None:
    target = _best_target(parameters, world)
    treatment = TREATMENTS.get(parameters.kind)
    treated = world.treated[treatment.predicate] if treatment else set(world.lies_in)
    wanted = [thing for thing in world.lies_in if _class(thing) == parameters.object.lower()]
    wanted = [thing for thing in wanted if world.lies_in[thing] != target or thing not in treated]
    wanted.sort(key=lambda thing: thing not in treated)
    return world.reach([(world.lies_in[thing], f"take {thing} from {world.lies_in[thing]}") for thing in wanted])


def _put_down(world: World, thing: str) -> str | None:
    here = sorted(command for command in world.admissible if command.startswith(f"move {thing} to "))
    return here[0] if here else world.reach([(place, f"move {thing} to {place}") for place in world.takers(thing)])


def _use_lamp(parameters: Parameters, world: World) -> str | None:
    lamps = [thing for thing in world.lies_in if _class(thing) == parameters.receptacle.lower()]
    return world.reach([(world.lies_in[lamp], f"use {lamp}") for lamp in lamps])


def _treat(treatment: Treatment, world: World, thing: str) -> str | None:
    for station in treatment.stations:
        places = [place for place in world.places if _class(place) == station]
        if places:
            return world.reach([(place, f"{treatment.verb} {thing} with {place}") for place in places])
    return None


def _deliver(parameters: Parameters, world: World, thing: str) -> str | None:
    best = _best_target(parameters, world)
    targets = [place for place in world.takers(thing) if _class(place) == parameters.receptacle.lower()]
    if best in targets and parameters.kind == "pick_two_obj_and_place":
        targets = [best]
    return world.reach([(place, f"move {thing} to {place}") for place in targets]) or _put_down(world, thing)


def _best_target(parameters: Parameters, world: World) -> str:
    """The receptacle to fill: two objects must end in the same one, so the one that holds most of them."""
    held_here = {place: 0 for place in sorted(world.places) if _class(place) == parameters.receptacle.lower()}
    for thing, place in world.lies_in.items():
        if place in held_here and _class(thing) == parameters.object.lower():
            held_here[place] += 1
    return max(held_here, key=held_here.__getitem__, default="")


def _class(name: str) -> str:
    """``drawer`` of ``drawer 3``."""
    return name.rpartition(" ")[0]
