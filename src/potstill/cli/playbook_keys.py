"""Whether a learning run has the keys and the package that it needs, before anything is played or paid for.

What it knows: providers that refuse whoever sends no key, and what mends almost-JSON. What it does not do: ask a
provider whether a key is good.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from potstill.cli.playbook_learning import LearningPlan
from potstill.models.keys import find_key, how_to_set
from potstill.models.providers import PROVIDERS


def can_repair() -> bool:
    """Whether an answer that is almost JSON can be read (``spoken`` does it, with the extra ``playbook``)."""
    return find_spec("json_repair") is not None


def missing_keys(learning: LearningPlan) -> Iterator[str]:
    """A sentence for each role whose provider needs a key that nobody set."""
    config, setup = learning.plan.config, learning.setup
    roles: list[tuple[str, str | None, dict[str, Any]]] = []
    if setup.episodes is None:
        roles.append(("student", config.student, config.student_options))
    for role, spec in (("reflector", setup.reflector), ("curator", setup.curator)):
        roles.append((role, spec, config.teacher_options if spec == config.teacher else {}))
    for role, model, options in roles:
        provider = PROVIDERS.get((model or "").partition(":")[0])
        if provider is None or not provider.key_required:
            continue
        named = options.get("key_variable")
        variables = (str(named),) if named else provider.key_variables
        if find_key(variables) is None:
            yield f"No key for the {role}, {model}. {how_to_set(variables)}"
