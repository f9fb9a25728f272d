"""Images of a bag, over real DDS and of a lossless film are equal byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path

from rclpy.parameter import Parameter

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.vision_parity import contract, parity


def test_images_by_all_paths_have_equal_bytes(graph, tmp_path):
    node = graph.node('listener')
    node.set_parameters([Parameter('use_sim_time', value=True)])
    found = {row['method']: row for row in parity(tmp_path, 20, node, graph.spin)}
    pixels = sum(item.image.size for item in contract().images)
    dds, film = found['bag and DDS'], found['bag and lossless film']
    assert (dds['ticks'], dds['unequal'], dds['values']) == (20, 0, 20 * (2 + pixels))
    assert (film['ticks'], film['unequal'], film['values']) == (20, 0, 20 * pixels)
