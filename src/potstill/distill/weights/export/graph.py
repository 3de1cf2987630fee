"""An ONNX graph as it is written down: named weights, operators one by one, equal bytes for equal contents.

The graphs of policies have some fifty operators, so they are written by hand: ``torch.onnx`` needs PyTorch, seconds
and a second file for the weights, and names nodes as its version likes. Knows operators. Does not know policies.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from potstill import __version__
from potstill.edge.layers import SCALE, bits, unpacked
from potstill.edge.tensors import Array
from potstill.errors import MissingExtra

OPSET, IR_VERSION = 17, 8
"""Of 2022: runtimes since ONNX Runtime 1.12 read them."""


def load_onnx() -> Any:
    """The package ``onnx``. Raises ``MissingExtra`` where it is not installed."""
    try:
        importlib.import_module("onnx.checker")
        return importlib.import_module("onnx")
    except ImportError:
        raise MissingExtra("Writing ONNX", "onnx") from None


class Graph:
    """Operators are added in order; each gives the name of its output."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """``arrays``: a policy's, of which the graph holds those that it asks for, in the bits that they have."""
        self._onnx = load_onnx()
        self._arrays = dict(arrays)
        self._nodes: list[Any] = []
        self._held: dict[str, Any] = {}
        self._made: dict[str, str] = {}

    def op(self, kind: str, *inputs: str, place: int = 0, **attributes: Any) -> str:
        """Add an operator; the name of its output, or of the one at ``place`` where it has several."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        outputs = [*[""] * place, name]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A number or some of them, held once."""
        array = np.asarray(value, dtype)
        digits = "_".join(str(one) for one in array.ravel().tolist()) or "none"
        return self._hold(f"const_{array.dtype}_{array.ndim}d_{digits}", array)

    def table(self, name: str, value: Array) -> str:
        """Many numbers, held under a name."""
        return self._hold(f"const_{name}", value)

    def weight(self, name: str) -> str:
        """An array in float32; one of fewer bits is multiplied out when the model is loaded or run."""
        array = self._arrays[name]
        if bits(array) is None:
            return self._hold(name, np.asarray(array, np.float32))
        if name not in self._made:
            values, scale = self._bits(name)
            self._made[name] = self.op("DequantizeLinear", values, scale, axis=0)
        return self._made[name]

    def rows(self, name: str, numbers: str) -> str:
        """Rows of a matrix; of one with fewer bits only these rows are multiplied out."""
        if bits(self._arrays[name]) is None:
            return self.op("Gather", self.weight(name), numbers, axis=0)
        values, scale = self._bits(name)
        some = self.op("Cast", self.op("Gather", values, numbers, axis=0), to=self._onnx.TensorProto.FLOAT)
        scales = self.op("Gather", scale, numbers, axis=0)
        return self.op("Mul", some, self.op("Unsqueeze", scales, self.constant([-1], np.int64)))

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """``x W^T + b`` over the last axis, for a weight (out, in)."""
        transposed = f"{weight}^T"
        if transposed not in self._made:
            self._made[transposed] = self.op("Transpose", self.weight(weight), perm=[1, 0])
        found = self.op("MatMul", x, self._made[transposed])
        return found if bias is None else self.op("Add", found, self.weight(bias))

    def cast(self, x: str, kind: str) -> str:
        """To ``FLOAT``, ``INT64`` or ``BOOL``."""
        return self.op("Cast", x, to=getattr(self._onnx.TensorProto, kind))

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[str | int]]],
        output: tuple[str, str, Sequence[str | int]],
        texts: Mapping[str, str],
    ) -> bytes:
        """The whole file. ``inputs``: name -> type and dimensions, free ones as texts; ``output``: its name, what it is
        called outside, its dimensions (float32). ``texts`` stand in the file's metadata."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        made, name, shape = output
        self._nodes.append(helper.make_node("Identity", [made], [name], name=name))
        graph = helper.make_graph(
            self._nodes,
            "policy",
            [helper.make_tensor_value_info(key, getattr(kinds, kind), list(at)) for key, (kind, at) in inputs.items()],
            [helper.make_tensor_value_info(name, kinds.FLOAT, list(shape))],
            [self._held[key] for key in sorted(self._held)],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="potstill",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(sorted(texts.items())))
        self._onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _bits(self, name: str) -> tuple[str, str]:
        """Four bits are held in eight: graphs of this opset have no narrower whole numbers."""
        return self._hold(name, unpacked(self._arrays[name])), self._hold(name + SCALE, self._arrays[name + SCALE])

    def _hold(self, name: str, array: Array) -> str:
        if name not in self._held:
            self._held[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name
