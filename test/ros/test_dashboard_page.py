"""The dashboard of a real policy node in headless Chromium: what a person sees, and what the buttons may do."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from time import time_ns
from types import MappingProxyType
from urllib.parse import urlsplit

import numpy as np
import pytest
from arms import ANSWERED, HOME, JOINTS
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from students import save_student

from vdd_ros.nodes import messages, qos
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.labels import Label, Labels, save_labels

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')
OPTIONS = (
    *('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--window-size=1280,1000'),
    *('--disable-background-networking', '--disable-component-update', '--disable-sync'),
)
STALE = 1.5
LEFT, RIGHT = '#aa2211', '#1155cc'

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason='no Chromium with its driver: apt-get install chromium chromium-driver',
)


class Follower:
    """An arm that is always where it was commanded to be; a browser may take its time meanwhile."""

    def __init__(self) -> None:
        """Take part in the graph, in a thread."""
        self.position = HOME
        self.rested = 0
        """How many of the newest commands were the same."""
        self._node, self._executor = Node('arm'), SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._states = self._node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        self._node.create_subscription(Float64MultiArray, 'arm_controller/commands', self._on_command, qos.COMMANDS)
        self._node.create_timer(0.01, self._report)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._ending.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _report(self) -> None:
        zeros = np.zeros(len(HOME))
        self._states.publish(messages.to_joint_state(time_ns(), JOINTS, self.position, zeros, zeros))

    def _on_command(self, message: Float64MultiArray) -> None:
        position = np.array(message.data)
        self.rested = self.rested + 1 if np.array_equal(position, self.position) else 0
        self.position = position


class Page:
    """The page in a browser."""

    def __init__(self, driver, graph, address: str) -> None:
        """Open the page."""
        self.driver, self._graph = driver, graph
        driver.get(address)

    def text(self, element: str) -> str:
        """Return the text of an element by its id, in one call: the page may replace what is in it at any time."""
        return self.driver.execute_script('return document.getElementById(arguments[0]).innerText.trim()', element)

    def shows(self, condition: Callable[[], object]) -> None:
        """Wait until something is shown."""
        self._graph.until(condition)

    def click(self, element: str) -> None:
        """Click on an element by its id."""
        self.driver.find_element('id', element).click()

    def is_enabled(self, element: str) -> bool:
        """Return whether a button can be pressed."""
        return self.driver.execute_script('return !document.getElementById(arguments[0]).disabled', element)

    def unlock(self, token: str) -> None:
        """Enter a token."""
        self.click('lock')
        self.driver.find_element('id', 'token').send_keys(token)
        self.click('enter')

    def is_stale(self) -> bool:
        """Return whether the values are marked stale."""
        return 'stale' in self.driver.find_element('tag name', 'body').get_attribute('class').split()


@pytest.fixture(scope='module')
def graph(shared_graph):
    """One graph for all."""
    return shared_graph


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A student whose two experts have names and colours, and rules that pin the second."""
    folder = tmp_path_factory.mktemp('dashboard')
    student = save_student(folder / 'student', [[0.0, 1e-4], [0.0, 1e-4]], change={'prediction_horizon': 4})
    labels = {0: Label(name='left', colour=LEFT), 1: Label(name='right', colour=RIGHT)}
    save_labels(student, load_artifact(student).hash, Labels(MappingProxyType(labels)))
    (folder / 'rules.yaml').write_text('rules: [{name: only right, pin: right}]')
    return folder


@pytest.fixture(scope='module')
def arm(graph) -> Iterator[Follower]:
    """One arm for all."""
    yield (arm := Follower())
    arm.close()


@pytest.fixture(scope='module')
def node(graph, arm, folder):
    """One policy node for all, which moves the arm."""
    given = {**ANSWERED, 'artifact': folder / 'student', 'control_rate': 100, 'autostart': True}
    node = graph.start('policy_node', use_sim_time=False, **given)
    graph.until(lambda: not np.array_equal(arm.position, HOME))
    yield node
    assert 'Traceback' not in node.text


@pytest.fixture(scope='module')
def address(graph, folder) -> Iterator[str]:
    """The address of a dashboard whose buttons need a token."""
    given = {'port': 0, 'token_file': folder / 'token', 'stale_after': STALE}
    dashboard = graph.start('dashboard', use_sim_time=False, **given)
    graph.until(lambda: 'commands need the token' in dashboard.text)
    yield next(word for word in dashboard.text.split() if word.startswith('http://'))
    assert 'Traceback' not in dashboard.text


@pytest.fixture(scope='module')
def token(address, folder) -> str:
    """The token that the dashboard has written."""
    return (folder / 'token').read_text().strip()


@pytest.fixture(scope='module')
def driver(tmp_path_factory) -> Iterator[object]:
    """A browser."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f'--user-data-dir={tmp_path_factory.mktemp("profile")}'):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, graph, node, address) -> Page:
    """The page, opened anew and locked, of an arm that moves."""
    page = Page(driver, graph, address)
    driver.execute_script('sessionStorage.clear()')
    driver.refresh()
    page.shows(lambda: page.text('message').lower() == 'commanding')
    return page


def set_rules(graph, path: str) -> None:
    """Set the parameter `rules` of the policy node."""
    node = graph.node('setter')
    client = node.create_client(SetParameters, 'policy_node/set_parameters')
    graph.until(client.service_is_ready)
    request = SetParameters.Request(parameters=[Parameter('rules', value=path).to_parameter_msg()])
    future = client.call_async(request)
    graph.until(future.done)
    assert future.result().results[0].successful, future.result().results[0].reason
    graph.drop(node)


def ask(address: str, path: str, **headers: str) -> tuple[int, str]:
    """Send a POST request as a program does; return status and body."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request('POST', path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_by_default_the_dashboard_is_read_only_and_has_no_clients(graph):
    """The first of this module: the other tests start a dashboard of the same name."""
    dashboard = graph.start('dashboard', use_sim_time=False, port=0)
    graph.until(lambda: 'the page is read-only' in dashboard.text)
    address = next(word for word in dashboard.text.split() if word.startswith('http://'))
    for header in ('', 'Bearer ', 'Bearer x'):
        status, body = ask(address, '/api/commands/stop', Authorization=header)
        assert (status, 'this dashboard is read-only' in body) == (403, True)
    looker = graph.node('looker')
    graph.until(lambda: 'dashboard' in looker.get_node_names())
    assert looker.get_client_names_and_types_by_node('dashboard', '/') == []
    assert 'policy_node' not in looker.get_node_names()
    assert dashboard.stop() == 0


@needs_browser
def test_values_of_the_running_node_appear(page, driver, address):
    assert page.text('node') == '/policy_node' and page.text('link') == 'live'
    assert page.text('stage') == 'full' and page.text('rules') == 'none'
    page.shows(lambda: page.text('expert').splitlines() in (['left', '50 %'], ['right', '50 %']))
    assert page.text('gating').splitlines() == ['0 left', '50 %', '1 right', '50 %']
    script = 'return [...document.querySelectorAll("#gating i")].map((fill) => fill.style.backgroundColor)'
    assert driver.execute_script(script) == ['rgb(170, 34, 17)', 'rgb(17, 85, 204)']
    page.shows(lambda: 'command after its deadline' in page.text('latency'))
    assert page.text('explanation').startswith('expert ')
    loaded = driver.execute_script('return performance.getEntriesByType("resource").map((entry) => entry.name)')
    assert loaded and all(name.startswith(address) for name in loaded)
    assert driver.get_log('browser') == []


@needs_browser
def test_values_follow_the_node(page, graph, folder, driver):
    points = 'return points.length'
    before = driver.execute_script(points)
    set_rules(graph, str(folder / 'rules.yaml'))
    page.shows(lambda: page.text('rules') == 'only right' and page.text('expert').splitlines() == ['right', '100 %'])
    assert page.text('gating').splitlines() == ['0 left', '0.0 %', '1 right', '100 %']
    assert '(pins 1 (right))' in page.text('explanation')
    page.shows(lambda: driver.execute_script(points) >= before + 2)
    assert len(driver.find_elements('css selector', '#plot polygon')) >= 2
    set_rules(graph, '')
    page.shows(lambda: page.text('rules') == 'none')


@needs_browser
def test_a_button_with_the_token_stops_the_arm_and_another_resumes_after_a_question(page, arm, token, driver):
    assert not page.is_enabled('command-stop')
    page.unlock(token)
    page.shows(lambda: page.is_enabled('command-stop'))
    page.click('command-stop')
    page.shows(lambda: page.text('answer') == 'Stop the arm: braking; ~/resume goes on')
    page.shows(lambda: page.text('message').lower().startswith('stopped: stop was asked for') and arm.rested > 50)
    page.click('command-resume')
    assert 'workspace clear' in page.text('confirm')
    page.click('sure')
    page.shows(lambda: page.text('answer') == 'Resume: going on' and page.text('message').lower() == 'commanding')


@needs_browser
def test_without_the_token_commands_are_refused_and_the_arm_goes_on(page, arm, address, token, driver):
    page.unlock('not the token')
    page.shows(lambda: page.text('refused') == 'expected the token of this dashboard')
    assert not page.is_enabled('command-stop')
    status = driver.execute_async_script(
        'const done = arguments[0]; fetch("/api/commands/stop", {method: "POST"}).then((answer) => done(answer.status))'
    )
    assert status == 403
    for header in ('', f'Bearer {token[:-1]}', 'Bearer', f'Basic {token}'):
        assert ask(address, '/api/commands/stop', Authorization=header)[0] == 403
    position = arm.position
    page.shows(lambda: not np.array_equal(arm.position, position) and page.text('message').lower() == 'commanding')


@needs_browser
def test_values_of_a_node_that_is_silent_are_marked_stale_until_it_reports_again(page, node):
    assert not page.is_stale()
    node.send(signal.SIGSTOP)
    try:
        page.shows(page.is_stale)
        assert page.text('link').startswith('stale, ') and 'The node sends no diagnostics.' in page.text('note')
    finally:
        node.send(signal.SIGCONT)
    page.shows(lambda: not page.is_stale() and page.text('link') == 'live')


def test_a_request_with_the_token_is_answered_and_an_unknown_command_is_not_found(address, token, node, graph):
    allowed = {'Authorization': f'Bearer {token}'}
    assert ask(address, '/api/unlock', **allowed) == (200, '{"success":true,"text":"unlocked"}')
    assert ask(address, '/api/commands/dance', **allowed)[0] == 404
    graph.until(lambda: 'fine: gate: ' in ask(address, '/api/commands/preflight', **allowed)[1])


def test_only_this_machine_reaches_the_page_and_under_its_own_name_alone(address, token):
    port = urlsplit(address).port
    rows = [line.split() for name in ('tcp', 'tcp6') for line in Path('/proc/net', name).read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == '0A' and int(row[1].rpartition(':')[2], 16) == port}
    assert listening == {f'0100007F:{port:04X}'}
    foreign = {'Host': f'attacker.example:{port}', 'Authorization': f'Bearer {token}'}
    assert ask(address, '/api/commands/stop', **foreign)[0] == 403
    assert ask(address, '/api/unlock', Host=f'localhost:{port}', Authorization=f'Bearer {token}')[0] == 200


def test_a_port_that_is_taken_ends_the_node_with_one_line(graph):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        dashboard = graph.start('dashboard', use_sim_time=False, port=other.getsockname()[1])
        assert dashboard.wait() == 2
    assert 'expected to serve the dashboard at 127.0.0.1' in dashboard.text and 'Traceback' not in dashboard.text
