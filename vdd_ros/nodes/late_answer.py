"""Services that respond later, with any executor: the events executor of ROS 2 Jazzy does not await coroutines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.service import Service
from rclpy.task import Future


@dataclass(frozen=True)
class LateAnswer:
    """Return value of a service callback whose response follows later."""

    response: Future
    """The response; its result is set later, in any thread."""


def answering_late(service: Service) -> Service:
    """Make a service send the response of a `LateAnswer` when its result is set."""
    send = service.send_response

    def send_response(response: Any, header: Any) -> None:
        if isinstance(response, LateAnswer):
            response.response.add_done_callback(lambda done: send(done.result(), header))
        else:
            send(response, header)

    # Executors call the method of the instance.
    setattr(service, 'send_response', send_response)  # noqa: B010 - not a method of the class
    return service
