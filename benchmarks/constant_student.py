"""A student small enough for tests and benchmarks: its experts are constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vdd_ros.artifact import DataRecord, Manifest, save_artifact
from vdd_ros.contract import load_contract


def save_student(path: Path, steps: list[list[float]], contract: str = 'avoiding_cartesian') -> Path:
    """Save an artifact whose experts, all equally likely, each take a constant step [m] in every tick."""
    bound = load_contract(contract)
    mean = np.array(steps, dtype=np.float32)[None, :, None, :]
    experts, size = mean.shape[1], bound.action_size
    outputs = {
        'log_gating': np.full((1, experts), -np.log(experts), dtype=np.float32),
        'mean': mean,
        # So little that nobody sees it: softplus(-300).
        'spread': np.full((1, experts, size), -300, dtype=np.float32),
    }
    window = helper.make_tensor_value_info(
        'observation', TensorProto.FLOAT, [1, bound.observation_horizon, bound.observation_size]
    )
    graph = helper.make_graph(
        [
            helper.make_node('Constant', [], [name], value=numpy_helper.from_array(value))
            for name, value in outputs.items()
        ],
        'constant',
        [window],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
    onnx.checker.check_model(model)
    manifest = Manifest(
        kind='student',
        contract=bound,
        contract_hash=bound.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        observation_offset=(0.0,) * bound.observation_size,
        observation_scale=(1.0,) * bound.observation_size,
        action_offset=(0.0,) * size,
        action_scale=(1.0,) * size,
        network={'covariance': 'diagonal', 'scale_floor': 0.0, 'rank': 1},
        training={},
        metrics={},
    )
    save_artifact(path, manifest, {'nothing': np.zeros(1, dtype=np.float32)}, model.SerializeToString())
    return path
