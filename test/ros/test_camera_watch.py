"""`vdd inspect` of a recording with a camera: contact sheets, films, and running cameras compared over real DDS."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from vdd_ros.commands.cli import main
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.nodes.bridge.image_messages import to_compressed
from vdd_ros.nodes.messages import to_time
from vdd_ros.nodes.pacing import Pacer

SECOND, PERIOD = 10**9, 50_000_000
TICKS, EPISODES = 20, 4


def scene(tick: int) -> np.ndarray:
    """Return a table with two bins and an arm that passes, shape (row, column, 3)."""
    rows, columns = np.mgrid[0:96, 0:128]
    gray = 100 + 25 * ((rows // 8 + columns // 8) % 2)
    gray[16:40, 16:48], gray[52:80, 76:108] = 200, 20
    found = np.stack([gray, gray - 10, gray - 20], axis=2)
    found[:40, 5 * tick : 5 * tick + 12] = 150, 60, 60
    return found.astype(np.uint8)


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The contract of a camera, and a bag of four demonstrations."""
    folder = tmp_path_factory.mktemp('camera')
    image = {'height': 48, 'width': 64, 'color': 'rgb'}
    seen = {'name': 'front', 'topic': 'front/compressed', 'type': 'CompressedImage', 'image': image}
    measured = {'name': 'measured', 'source': 'measured', 'space': 'joint'}
    values = load_contract('avoiding_joint').model_dump(mode='json')
    change = {'schema_version': 3, 'name': 'seen', 'policy_rate': 20.0, 'observation': [measured, seen]}
    contract = Contract.model_validate({**values, **change})
    (folder / 'seen.yaml').write_text(contract.model_dump_json(), encoding='utf-8')
    topics = {'/joint_states': messages.JOINT_STATE, '/arm_controller/commands': messages.NUMBERS}
    topics |= {'/episode': messages.MARK, '/front/compressed': messages.COMPRESSED_IMAGE}
    with BagWriter(folder / 'bag', topics) as writer:
        for number in range(EPISODES):
            begin = (1 + 2 * number) * SECOND
            writer.write('/episode', begin, messages.mark(begin, 'start', index=number))
            for tick in range(TICKS):
                stamp = begin + tick * PERIOD
                joints = np.full(7, 0.01 * tick + 0.1 * number)
                image = to_compressed(Header(), scene(tick))
                data = messages.compressed_image(stamp, bytes(image.data), image.format)
                writer.write('/joint_states', stamp, messages.joint_state(stamp, contract.robot.joints, joints))
                writer.write('/front/compressed', stamp, data)
                writer.write('/arm_controller/commands', stamp + 1, messages.numbers(joints))
            end = begin + TICKS * PERIOD
            writer.write('/episode', end, messages.mark(end, 'end', index=number, outcome='success'))
    return folder / 'seen.yaml', folder / 'bag'


def test_a_report_has_a_contact_sheet_and_films_show_each_demonstration(recorded, tmp_path, capsys):
    contract, bag = recorded
    words = ['inspect', str(bag), '--contract', str(contract), '--html', str(tmp_path / 'page.html')]
    assert main([*words, '--films', str(tmp_path / 'films')]) == 0
    page = (tmp_path / 'page.html').read_text()
    assert re.search(r'<code>front</code></p>\s*<figure><img src="data:image/jpeg;base64,\S{2000,}"', page)
    films = sorted((tmp_path / 'films').iterdir())
    assert [film.name for film in films] == [f'{number:04d}.mp4' for number in range(EPISODES)]
    assert 'wrote 4 films' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('change', 'code', 'line'),
    [
        (lambda image: image, 0, 'note: front'),
        (lambda image: (image * 0.5).astype(np.uint8), 1, 'darker than training'),
        (np.zeros_like, 1, 'fault: front'),
        (None, 1, 'no image of front/compressed'),
    ],
    ids=['as recorded', 'dark', 'covered', 'silent'],
)
def test_running_cameras_are_compared_with_the_recording(graph, recorded, capsys, change, code, line):
    contract, bag = recorded
    camera, sent = graph.node('camera'), 0
    publisher = camera.create_publisher(CompressedImage, 'front/compressed', 10)

    def publish() -> None:
        nonlocal sent
        header = Header(stamp=to_time((100 * TICKS + sent) * PERIOD))
        publisher.publish(to_compressed(header, change(scene(sent % TICKS))))
        sent += 1

    pacer = Pacer(0.05, publish if change else lambda: None)
    pacer.start()
    try:
        words = ['inspect', str(bag), '--contract', str(contract), '--live', '--seconds', '3', '--check']
        assert main(words) == code
    finally:
        pacer.stop()
    assert line in ' '.join(capsys.readouterr().out.split())


def test_a_contract_without_images_is_refused(recorded, capsys):
    assert main(['inspect', str(recorded[1]), '--contract', 'avoiding_joint', '--live']) == 2
    assert 'expected a contract of version 3 with images' in ' '.join(capsys.readouterr().err.split())
