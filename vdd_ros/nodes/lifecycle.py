"""Lifecycle callbacks that may raise."""

from __future__ import annotations

import functools
import traceback
from typing import Any, Callable

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from vdd_ros.errors import VddError


def transition(callback: Callable[..., None]) -> Callable[..., TransitionCallbackReturn]:
    """Let a lifecycle callback raise: rclpy would swallow it; here it is logged, and the transition fails.

    The node keeps the error as `complaint`; while it starts by itself (`starting`), whoever started it reads its last
    line and no log.
    """

    @functools.wraps(callback)
    def call(self: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback(self)
        except VddError as error:
            self.complaint = error
            if not self.starting:
                self.get_logger().error(str(error))
        except Exception as error:  # whatever it is, the lifecycle would hide it
            self.complaint = error
            self.get_logger().error(traceback.format_exc())
        else:
            return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE

    return call
