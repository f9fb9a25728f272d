"""Inference of an exported network: onnxruntime with buffers bound once."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import onnxruntime

from vdd_ros.common.errors import ArtifactError


class Network:
    """An ONNX network with float32 inputs and outputs and at most one dynamic dimension, the batch.

    Calls of batch one, the case of the robot, use buffers that were bound when the network was loaded, which saves a
    quarter of the time of a small network. Several threads may call the network; at batch one they take turns.
    """

    def __init__(self, model: bytes, *, threads: int = 1, name: str = 'a network') -> None:
        """Load a model.

        Parameters
        ----------
        model
            The ONNX model.
        threads
            How many compute one answer; one has the best tail at the size of these networks.
        name
            Where it comes from, for the error.

        Raises
        ------
        ArtifactError
            The model cannot be run here.

        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._lock = threading.Lock()
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
            self._binding = self._session.io_binding()
            self._inputs = {node.name: np.zeros(_shape(node), dtype=np.float32) for node in self._session.get_inputs()}
            self._outputs = {
                node.name: np.zeros(_shape(node), dtype=np.float32) for node in self._session.get_outputs()
            }
            for input_name, buffer in self._inputs.items():
                self._binding.bind_ortvalue_input(input_name, onnxruntime.OrtValue.ortvalue_from_numpy(buffer))
            for output_name, buffer in self._outputs.items():
                self._binding.bind_ortvalue_output(output_name, onnxruntime.OrtValue.ortvalue_from_numpy(buffer))
            self._answers = tuple(self._outputs.values())
        except Exception as error:  # onnxruntime raises classes without a common base
            raise ArtifactError(
                expected=f'a network that runs at {name}',
                found=' '.join(str(error).split())[:200],
                remedy='distill it again with this version',
            ) from error

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs at batch one, by name."""
        return {name: buffer.shape for name, buffer in self._inputs.items()}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs at batch one, by name, in their order."""
        return {name: buffer.shape for name, buffer in self._outputs.items()}

    def __call__(self, inputs: Mapping[str, np.ndarray | np.floating]) -> list[np.ndarray]:
        """Evaluate the network; the answers are the caller's own.

        Parameters
        ----------
        inputs
            Every input by its name, of any floating-point type.

        """
        for name, buffer in self._inputs.items():
            if inputs[name].shape != buffer.shape:
                answers = self._session.run(None, {name: _float32(value) for name, value in inputs.items()})
                return [np.asarray(answer) for answer in answers]
        with self._lock:
            for name, buffer in self._inputs.items():
                buffer[...] = inputs[name]
            self._session.run_with_iobinding(self._binding)
            return [answer.copy() for answer in self._answers]


def _shape(node: onnxruntime.NodeArg) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in node.shape]


def _float32(value: np.ndarray | np.floating) -> np.ndarray:
    return np.ascontiguousarray(value, dtype=np.float32)
