"""Which weights of a language model belong to one attention head or one unit of its MLPs, and the model without some.

Query heads that share a key-value head (grouped queries, arXiv 2305.13245) go with it, so that the others share theirs
as before; where all share one, they go one by one. Every layer loses as many, since a checkpoint says these numbers
once. Knows models of transformers that are built as Llama is. Does not know what a head is worth (``compress.scores``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.distill.weights.compress.axes import Axis, Part, taken
from potstill.distill.weights.compress.scores import left
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.edge.tensors import Array
from potstill.errors import ConfigError
from potstill.models.convert import load_transformers

torch = load_torch()

HEADS, UNITS = "heads", "units"
NAMES = (HEADS, UNITS)
_SIZES = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")


def head_dim(config: Any) -> int:
    """How many numbers a head has, by a configuration of transformers."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def axes_of(model: Any) -> dict[str, Axis]:
    """The axes of every layer by name: ``layers.0.heads``, ``layers.0.units`` and so on.

    Raises ``ConfigError`` for a model whose layers are built otherwise, or differ in size.
    """
    config, shapes = model.config, {name: tuple(value.shape) for name, value in model.state_dict().items()}
    odd = [name for name in _SIZES if not isinstance(getattr(config, name, None), int)]
    found = [] if odd else [axis for layer in range(config.num_hidden_layers) for axis in _layer(config, layer)]
    for axis in found:
        odd += [part.array for part in axis.parts if not _fits(part, axis.size, shapes)]
    if odd:
        raise ConfigError(
            "Heads and units are taken out of models whose layers are all equal and built as Llama's (q_proj, k_proj, "
            f"v_proj, o_proj; gate_proj, up_proj, down_proj), and this one, '{config.model_type}', is not: {odd[0]}. "
            "Tune a smaller base instead: --base NAME"
        )
    return {axis.name: _with_biases(axis, shapes) for axis in found}


def kind_of(axis: str) -> str:
    """``heads`` or ``units``."""
    return axis.rpartition(".")[2]


def permitted(config: Any, axis: Axis) -> list[int]:
    """How many units of an axis a model may have, the present number last.

    transformers refuses a checkpoint whose number of heads does not divide the width of its embeddings, also where it
    says the size of a head.
    """
    counts = range(1, axis.size + 1)
    if kind_of(axis.name) != HEADS:
        return list(counts)
    each = config.num_attention_heads // axis.size
    return [count for count in counts if count == axis.size or config.hidden_size % (count * each) == 0]


def staying(counts: Sequence[int], size: int, share: float) -> int:
    """How many of ``size`` units stay: the fewest permitted ones of which no more than ``share`` is taken out.

    >>> staying([1, 2, 3], 3, 0.34), staying([1, 2, 4], 4, 0.25), staying([1, 2, 4], 4, 0.5)
    (2, 4, 2)
    """
    return min(count for count in counts if count >= left(size, share))


def without(model: Any, keep: Mapping[str, Sequence[int]]) -> Any:
    """A new model with these units of each axis alone, by the axes' names. Axes of one kind must keep as many."""
    arrays: dict[str, Array] = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    axes = axes_of(model)
    for name, units in keep.items():
        arrays = taken(arrays, axes[name], units)
    config, first = copy.deepcopy(model.config), "model.layers.0."
    config.head_dim = head_dim(model.config)
    config.num_attention_heads = len(arrays[f"{first}self_attn.q_proj.weight"]) // config.head_dim
    config.num_key_value_heads = len(arrays[f"{first}self_attn.k_proj.weight"]) // config.head_dim
    config.intermediate_size = len(arrays[f"{first}mlp.gate_proj.weight"])
    made = load_transformers().AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    made.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    made.generation_config = model.generation_config
    return made.eval()


def _layer(config: Any, layer: int) -> tuple[Axis, Axis]:
    attention, mlp = (f"model.layers.{layer}.{name}" for name in ("self_attn", "mlp"))
    width, shared = head_dim(config), config.num_key_value_heads
    queries = width * (config.num_attention_heads // shared)
    heads = Axis(
        f"layers.{layer}.{HEADS}",
        shared,
        (
            Part(f"{attention}.q_proj.weight", 0, width=queries),
            Part(f"{attention}.k_proj.weight", 0, width=width),
            Part(f"{attention}.v_proj.weight", 0, width=width),
            Part(f"{attention}.o_proj.weight", 1, width=queries),
        ),
    )
    if shared == 1:
        own = tuple(part._replace(width=width) for part in (heads.parts[0], heads.parts[-1]))
        heads = Axis(heads.name, config.num_attention_heads, own)
    units = Axis(
        f"layers.{layer}.{UNITS}",
        config.intermediate_size,
        (
            Part(f"{mlp}.gate_proj.weight", 0),
            Part(f"{mlp}.up_proj.weight", 0),
            Part(f"{mlp}.down_proj.weight", 1),
        ),
    )
    return heads, units


def _fits(part: Part, size: int, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return len(shapes.get(part.array, ())) == 2 and shapes[part.array][part.dimension] == size * part.width


def _with_biases(axis: Axis, shapes: Mapping[str, tuple[int, ...]]) -> Axis:
    """A row's bias goes with the row."""
    rows = (part._replace(array=part.array.replace(".weight", ".bias")) for part in axis.parts if part.dimension == 0)
    return axis._replace(parts=(*axis.parts, *(part for part in rows if part.array in shapes)))
