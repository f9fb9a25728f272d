"""A web page of a running policy node."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DashboardCommand:
    """Show a running policy node on a local web page: stage, experts, rules, OOD score, limits and latency, live.

    The page is at http://127.0.0.1:8600/. By default it is read-only, and only accessible from this machine. With a
    token file, the page has buttons that stop, resume and activate the arm, and reload rules and student. The buttons
    need the token in that file. Needs rclpy and the extra `dashboard`.
    """

    node: str = 'policy_node'
    """Name of the policy node, with its namespace."""
    host: str = '127.0.0.1'
    """Address of the server. Addresses other than loopback are accessible from other machines, without encryption."""
    port: int = 8600
    """Port of the server."""
    token_file: Path | None = None
    """File with the token for buttons; created with a random token if it does not exist."""

    def run(self) -> None:
        """Run the command: this process becomes the node, and therefore receives Ctrl-C."""
        values = {'node': self.node, 'host': self.host, 'port': self.port}
        if self.token_file is not None:
            values['token_file'] = str(self.token_file)
        words = [word for name, value in values.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
        command = [sys.executable, '-m', 'vdd_ros.entry', 'dashboard', '--ros-args', *words]
        os.execve(sys.executable, command, {'AMENT_PREFIX_PATH': sys.prefix, **os.environ})
