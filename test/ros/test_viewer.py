"""The viewer, looking at a running bridge where there is no display."""

from __future__ import annotations

import subprocess
import sys
import time

import imageio_ffmpeg
import numpy as np
import pytest
from commander import Commander
from std_srvs.srv import SetBool


@pytest.mark.realtime
def test_without_a_display_the_scene_is_written_as_a_video_in_which_the_arm_moves(graph, tmp_path, monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    graph.start('mujoco_bridge', mode='realtime')
    commander = Commander(graph)
    commander.reset()
    film = tmp_path / 'view.mp4'
    options = ['--seconds', '1', '--width', '160', '--height', '120', '--camera', 'angle', '--film', str(film)]
    command = [sys.executable, '-m', 'vdd_ros.commands.cli', 'view', *options]
    viewer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    start = commander.position
    graph.until(lambda: commander.send(start + 0.3 * np.sin(commander.stamp * 2e-9)) or viewer.poll() is not None)
    assert viewer.returncode == 0, viewer.stderr.read()
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert frames == 30 and abs(seconds - 1.0) < 0.1
    pictures = imageio_ffmpeg.read_frames(str(film))
    assert next(pictures)['size'] == (160, 120)
    first, *_, last = (np.frombuffer(picture, dtype=np.uint8).astype(int) for picture in pictures)
    assert np.abs(first - last).max() > 50


def test_a_viewer_waits_while_the_bridge_is_paused_and_continues_with_it(graph, tmp_path):
    graph.start('mujoco_bridge', mode='realtime')
    Commander(graph).reset()
    film = tmp_path / 'view.mp4'
    size = {'width': 160, 'height': 120, 'seconds': 1.0, 'timeout': 4.0}
    node = graph.node('person')
    pause = node.create_client(SetBool, 'mujoco_bridge/pause')
    graph.until(pause.service_is_ready)

    def ask(paused: bool) -> None:
        answer = pause.call_async(SetBool.Request(data=paused))
        graph.until(answer.done)

    ask(True)
    viewer = graph.start('viewer', use_sim_time=False, film=film, **size)
    graph.until(lambda: 'showing' in viewer.text)
    since = time.monotonic()
    graph.until(lambda: time.monotonic() - since > 1.3 * size['timeout'] or not viewer.alive)
    assert viewer.alive, viewer.text
    ask(False)
    assert viewer.wait() == 0, viewer.text
    assert imageio_ffmpeg.count_frames_and_secs(str(film))[0] == 30


def test_a_viewer_without_a_bridge_gives_up_and_gives_the_remedy(graph, tmp_path):
    viewer = graph.start('viewer', use_sim_time=False, timeout=0.5, film=tmp_path / 'view.mp4')
    assert viewer.wait() == 2
    assert 'expected a bridge mujoco_bridge; found no message for 0.5 s; start mujoco_bridge' in viewer.text
    assert not list(tmp_path.glob('*.mp4'))
