"""Small students for tests and benchmarks, with constant experts and optional faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.policy.artifact import Calibration, DataRecord, Manifest, save_artifact
from vdd_ros.policy.density import ObservationDensity

_WEIGHT = 1500


def save_student(
    path: Path,
    steps: list[list[float]],
    contract: str = 'avoiding_cartesian',
    *,
    change: Mapping[str, Any] | None = None,
    nan_above: float | None = None,
    products: int = 0,
    unusual: bool = False,
) -> Path:
    """Save an artifact with equally probable experts that take constant steps.

    Parameters
    ----------
    path, steps, contract
        Path of the artifact, one step for each expert (used in every step of a chunk), and the contract.
    change
        Entries of the contract to replace; without any, it plans after every step.
    nan_above
        Threshold on the last entry of the newest observation above which the output is NaN.
    products
        Number of additional products of large matrices, which make the network slow.
    unusual
        Whether every observation is out of distribution, at level warn.

    """
    values = {**load_contract(contract).model_dump(mode='json'), 'action_horizon': 1, **(change or {})}
    bound = Contract.model_validate(values)
    experts, size, horizon = len(steps), bound.action_size, bound.prediction_horizon
    mean = np.repeat(np.array(steps, dtype=np.float32)[:, None, :], horizon, axis=1)
    outputs = {
        'log_gating': np.full((1, experts), -np.log(experts), dtype=np.float32),
        'mean': mean.reshape(1, -1),
        # A negligible standard deviation: softplus(-300).
        'spread': np.full((1, experts * horizon * size), -300, dtype=np.float32),
    }
    nodes = [*_nought(), *_flaw(bound, nan_above), *_labour(products)]
    for name, value in outputs.items():
        nodes.append(_constant(f'one_{name}', value))
        more = ['flaw', 'labour'] if name == 'mean' else []
        nodes.append(helper.make_node('Sum', [f'one_{name}', 'column', *more], [name]))
    shape = ['batch', bound.observation_horizon, bound.observation_size]
    graph = helper.make_graph(
        nodes,
        'constant',
        [helper.make_tensor_value_info('observation', TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ['batch', value.shape[1]])
            for name, value in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
    onnx.checker.check_model(model)
    manifest, density = _manifest(bound), None
    if unusual:
        # The entropy of the gating is between the lowest value and the threshold of a warning.
        quantiles = {'decidedness': {'train': (-10.0, 10.0, 10.0)}}
        calibration = Calibration(levels=(0.0, 0.01, 1.0), quantiles=quantiles, windows={'train': 1})
        manifest = manifest.model_copy(update={'calibration': calibration})
        size = bound.observation_horizon * bound.observation_size
        density = ObservationDensity(np.zeros((1, size)), np.eye(size), np.zeros(1)).arrays
    weights = {'nothing': np.zeros(1, dtype=np.float32)}
    save_artifact(path, manifest, weights, model.SerializeToString(), density)
    return path


def _nought() -> Sequence[NodeProto]:
    """Return a column of zeros, one for each window."""
    return [
        helper.make_node('ReduceMean', ['observation'], ['averages'], axes=[1, 2], keepdims=0),
        _constant('none', np.float32(0)),
        _constant('standing', np.array([-1, 1], dtype=np.int64)),
        helper.make_node('Mul', ['averages', 'none'], ['noughts']),
        helper.make_node('Reshape', ['noughts', 'standing'], ['column']),
    ]


def _flaw(contract: Contract, nan_above: float | None) -> Sequence[NodeProto]:
    """Return zero, or NaN where the observation exceeds a threshold."""
    if nan_above is None:
        return [_constant('flaw', np.float32(0))]
    place = np.array([contract.observation_horizon * contract.observation_size - 1], dtype=np.int64)
    return [
        _constant('flat', np.array([-1], dtype=np.int64)),
        _constant('place', place),
        _constant('threshold', np.float32(nan_above)),
        _constant('nan', np.float32(np.nan)),
        _constant('nought', np.float32(0)),
        helper.make_node('Reshape', ['observation', 'flat'], ['entries']),
        helper.make_node('Gather', ['entries', 'place'], ['entry']),
        helper.make_node('Greater', ['entry', 'threshold'], ['beyond']),
        helper.make_node('Where', ['beyond', 'nan', 'nought'], ['flaw']),
    ]


def _labour(products: int) -> Sequence[NodeProto]:
    """Return zero after long computations that depend on the observation, so that they cannot be precomputed."""
    if not products:
        return [_constant('labour', np.float32(0))]
    nodes = [
        _constant('large', np.array([_WEIGHT, _WEIGHT], dtype=np.int64)),
        # Products stay normal numbers, because subnormal ones are a hundred times slower.
        _constant('tiny', np.float32(1e-10)),
        helper.make_node('ReduceMean', ['observation'], ['average'], keepdims=0),
        helper.make_node('Mul', ['average', 'tiny'], ['small']),
        helper.make_node('Expand', ['small', 'large'], ['product0']),
    ]
    for number in range(products):
        nodes.append(helper.make_node('MatMul', [f'product{number}', 'product0'], [f'product{number + 1}']))
    return [*nodes, helper.make_node('ReduceMean', [f'product{products}'], ['labour'], keepdims=0)]


def _constant(name: str, value: np.ndarray) -> NodeProto:
    return helper.make_node('Constant', [], [name], value=numpy_helper.from_array(np.asarray(value)))


def _manifest(contract: Contract) -> Manifest:
    return Manifest(
        kind='student',
        contract=contract,
        contract_hash=contract.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        observation_offset=(0.0,) * contract.observation_size,
        observation_scale=(1.0,) * contract.observation_size,
        action_offset=(0.0,) * contract.action_size,
        action_scale=(1.0,) * contract.action_size,
        network={'covariance': 'diagonal', 'scale_floor': 0.0, 'rank': 1},
        training={},
        metrics={},
    )
