"""The description of the gateway names the routes that there are, no more and no fewer, and holds nothing secret."""

from __future__ import annotations

import json
import re
from typing import Any

from watched_gateway import Watched

from potstill.serve import dashboard
from potstill.serve.admin.api import OUTCOME, PREFIX
from potstill.serve.app import MODEL, described
from potstill.serve.upstreams import stored

DOCUMENT = json.loads(described())
_GROUP = re.compile(r"\(\?P<(\w+)>[^()]*\)")


def template(pattern: str) -> str:
    """A route's regular expression as a path of the description.

    >>> template(r"keys/(?P<id>[^/]+)")
    'keys/{id}'
    """
    return _GROUP.sub(r"{\1}", pattern)


def served(watched: Watched) -> set[tuple[str, str]]:
    """Methods and paths that the running gateway takes; HEAD goes wherever GET does, but not in the admin API."""
    app = watched.server.app
    assert app is not None
    found = {("GET", path) for path in app._get} | {("POST", path) for path in app._post}
    found |= {(method, path) for method, path, _ in stored.PLACES} | {("GET", f"{MODEL}{{model}}")}
    found |= {(method, PREFIX + template(pattern.pattern)) for method, pattern, _ in app._admin._table}
    found |= {("POST", template(OUTCOME.pattern))}
    return found | {("GET", "/" if path == "/" else "/dashboard/{file}") for path in dashboard.PATHS}


def test_every_route_is_described_and_nothing_else(watched: Watched) -> None:
    written = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert written == served(watched)


def test_acts_on_routes_are_those_that_there_are(watched: Watched) -> None:
    app = watched.server.app
    assert app is not None
    (pattern,) = [one.pattern for _, one, _ in app._admin._table if "(?P<act>" in one.pattern]
    (acts,) = re.findall(r"\(\?P<act>([^)]*)\)", pattern)
    told = DOCUMENT["paths"][f"{PREFIX}routes/{{name}}/{{act}}"]["post"]["parameters"]
    assert set(next(one["schema"]["enum"] for one in told if one["name"] == "act")) == set(acts.split("|"))


def test_it_is_served_to_who_has_no_key(watched: Watched) -> None:
    connection = watched.connect()
    connection.request("GET", f"{PREFIX}openapi.json")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert (response.status, response.getheader("content-type")) == (200, "application/json")
    assert json.loads(body) == DOCUMENT
    assert not re.search(rb"/work|/tmp|psk_[a-z0-9]{6}|sk-", body)


def test_every_reference_leads_somewhere_and_every_operation_has_its_name() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                here: Any = DOCUMENT
                for step in value["$ref"].removeprefix("#/").split("/"):
                    here = here[step]
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(DOCUMENT)
    names = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)
