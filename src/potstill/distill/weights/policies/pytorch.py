"""PyTorch, asked for in one place, so that its absence is one clear line.

Its package carries types that differ from version to version, and the check must pass without it: so the modules of
``distill.weights`` see ``torch`` as untyped, and derive their networks from the ``Module`` of this file.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from potstill.errors import MissingExtra


def load_torch() -> Any:
    """The package ``torch``. Raises ``MissingExtra`` where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise MissingExtra("Training a policy", "weights") from None


if TYPE_CHECKING:

    class Module:
        """The part of ``torch.nn.Module`` that is used here."""

        training: bool

        def __call__(self, *inputs: Any) -> Any: ...
        def parameters(self) -> Iterator[Any]: ...
        def state_dict(self) -> dict[str, Any]: ...
        def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...
        def train(self, mode: bool = True) -> Module: ...
        def eval(self) -> Module: ...

else:
    Module = load_torch().nn.Module
