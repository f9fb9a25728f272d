"""Collect images of the cameras of a contract from their topics, as a policy would receive them."""

from __future__ import annotations

import time

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.nodes.listening import Listening, live_streams
from vdd_ros.policy.observation import Pixels

_PERIOD = 0.05
"""Time between two checks of the streams [s]."""


def watched_images(contract: Contract, seconds: float) -> dict[str, list[np.ndarray]]:
    """Return the images of a contract that arrive within a time [s], by feature, each as a flat array.

    Raises
    ------
    ConfigurationError
        A message type of the contract is not installed.

    """
    context = Context()
    rclpy.init(context=context)
    node = Node('camera_watch', context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        streams = live_streams(contract)
        Listening(node, streams)
        found: dict[str, dict[int, np.ndarray]] = {item.name: {} for item in contract.images}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            again = time.monotonic() + _PERIOD
            while time.monotonic() < again:
                executor.spin_once(timeout_sec=_PERIOD / 5)
            for name, images in found.items():
                _take(contract, streams, name, images)
        return {name: list(images.values()) for name, images in found.items()}
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _take(contract: Contract, streams: LiveStreams, name: str, images: dict[int, np.ndarray]) -> None:
    """Add the newest image of a feature by its stamp, if it is a new one that can be decoded."""
    newest = streams.stamp(name)
    if newest is None or newest in images:
        return
    align = next(item.align for item in contract.images if item.name == name)
    # By its own stamp: the clocks of camera and policy are compared elsewhere.
    shown = streams.at(newest + round((align.latency + align.delay) * NANOSECONDS)).values[name]
    pixels = shown if isinstance(shown, np.ndarray) else _pixels(shown)
    if pixels is not None:
        images[newest] = pixels


def _pixels(image: Pixels) -> np.ndarray | None:
    return image.array()
