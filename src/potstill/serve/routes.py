"""Which models stand behind a name that a client asks for.

What it knows: the settings' routes, the default, the pass-through. What it does not do: HTTP, keys, decisions.
"""

from __future__ import annotations

import msgspec

from potstill.errors import UnknownName
from potstill.serve.settings import Gateway, Model, Route
from potstill.types import Struct

PASSED = "(passed)"


class Target(Struct, frozen=True, kw_only=True):
    """A route with its models."""

    route: Route
    teacher: Model
    student: Model | None = None
    label: str
    """For metrics: a name out of the settings, never one that a client made up."""


class Routes:
    def __init__(self, settings: Gateway) -> None:
        self._models = {model.name: model for model in settings.models}
        self._targets = {route.name: self._target(route) for route in settings.routes}
        self._default = settings.default_route
        self._passthrough = settings.passthrough

    def names(self) -> list[str]:
        return list(self._targets)

    def targets(self) -> list[Target]:
        return list(self._targets.values())

    def find(self, name: str) -> Target:
        """The route of that name, else the pass-through, else the default. Raises ``UnknownName``."""
        target = self._targets.get(name)
        if target is not None:
            return target
        passed = self.passed(name)
        if passed is not None:
            return passed
        if self._default is not None:
            return self._targets[self._default]
        raise UnknownName("model", name, self._targets)

    def embedding(self, name: str, found: Target) -> Target:
        """Where embeddings of that name are asked for: the default route's teacher makes none, so a name without a
        route stays what it is, at the same upstream."""
        if name in self._targets or found.label == PASSED:
            return found
        model = Model(name=name, upstream=found.teacher.upstream, model=name)
        return msgspec.structs.replace(found, teacher=model, student=None)

    def passed(self, name: str) -> Target | None:
        """Where a name without a route is passed to; None where it is not."""
        if self._passthrough is None:
            return None
        model = Model(name=name, upstream=self._passthrough, model=name)
        return Target(route=Route(name=name, teacher=name), teacher=model, label=PASSED)

    def _target(self, route: Route) -> Target:
        student = None if route.student is None else self._models[route.student]
        return Target(route=route, teacher=self._models[route.teacher], student=student, label=route.name)
