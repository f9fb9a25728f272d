"""Inference of an exported network: onnxruntime with buffers bound once."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import onnxruntime

from vdd_ros.common.errors import ArtifactError, ConfigurationError

PROVIDERS = {
    'cpu': ('CPUExecutionProvider', 'onnxruntime'),
    'cuda': ('CUDAExecutionProvider', 'onnxruntime-gpu'),
    'openvino': ('OpenVINOExecutionProvider', 'onnxruntime-openvino'),
}
"""By parameter value: the execution provider of onnxruntime, and the Python package that contains it."""

_TYPES = {'tensor(uint8)': np.uint8, 'tensor(int16)': np.int16}


class Network:
    """An ONNX network with float32 outputs and at most one dynamic dimension, the batch.

    Inputs are float32, or uint8 and int16 for images.

    Calls with batch size one, as on the robot, use buffers bound at loading, which saves a quarter of the time of a
    small network. Several threads may call the network; calls with batch size one are serialised.
    """

    def __init__(self, model: bytes, *, threads: int = 1, provider: str = 'cpu', name: str = 'a network') -> None:
        """Load a model.

        Parameters
        ----------
        model
            The ONNX model.
        threads
            Threads for one network call; one has the lowest tail latency for networks of this size.
        provider
            Execution provider: a key of `PROVIDERS`.
        name
            Origin of the model, for error messages.

        Raises
        ------
        ArtifactError
            The model cannot be run on this machine.
        ConfigurationError
            The provider is unknown, not installed, or finds no device.

        """
        providers = _providers(provider)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._lock = threading.Lock()
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
            self._binding = self._session.io_binding()
            self._inputs = {
                node.name: np.zeros(_shape(node), dtype=_TYPES.get(node.type, np.float32))
                for node in self._session.get_inputs()
            }
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
        if self._session.get_providers()[0] != providers[0]:
            # onnxruntime falls back to the CPU without an error.
            raise ConfigurationError(
                expected=f'{providers[0]} to start for provider={provider}',
                found=f'onnxruntime uses {self._session.get_providers()[0]}',
                remedy='install the driver and libraries of the device, or set provider to cpu',
            )

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs at batch one, by name."""
        return {name: buffer.shape for name, buffer in self._inputs.items()}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs at batch one, by name, in their order."""
        return {name: buffer.shape for name, buffer in self._outputs.items()}

    def __call__(self, inputs: Mapping[str, np.ndarray | np.floating]) -> list[np.ndarray]:
        """Evaluate the network, and return the outputs in the order of `outputs`, as new arrays.

        Parameters
        ----------
        inputs
            All inputs by name, of any floating-point type or of the type of the network's input.

        """
        for name, buffer in self._inputs.items():
            if inputs[name].shape != buffer.shape:
                kinds = {name: held.dtype for name, held in self._inputs.items()}
                given = {name: _contiguous(inputs[name], kind) for name, kind in kinds.items()}
                answers = self._session.run(None, given)
                return [np.asarray(answer) for answer in answers]
        with self._lock:
            for name, buffer in self._inputs.items():
                buffer[...] = inputs[name]
            self._session.run_with_iobinding(self._binding)
            return [answer.copy() for answer in self._answers]


def _providers(name: str) -> list[str]:
    """Return what computes and what computes the operators that it lacks, in this order."""
    if name not in PROVIDERS:
        raise ConfigurationError(
            expected=f'a provider: one of {", ".join(PROVIDERS)}', found=name, remedy='choose one of them'
        )
    wanted, package = PROVIDERS[name]
    available = onnxruntime.get_available_providers()
    if wanted not in available:
        raise ConfigurationError(
            expected=f'an onnxruntime with {wanted} for provider={name}',
            found=f'one with {", ".join(available)}',
            remedy=f'install {package} in place of onnxruntime, or set provider to cpu',
        )
    cpu = PROVIDERS['cpu'][0]
    return [wanted] if wanted == cpu else [wanted, cpu]


def _shape(node: onnxruntime.NodeArg) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in node.shape]


def _contiguous(value: np.ndarray | np.floating, kind: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(value, dtype=kind)
