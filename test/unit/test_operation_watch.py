"""Events of a policy in operation become episodes with a label, and end a while after the newest event."""

from __future__ import annotations

from vdd_ros.nodes.recorder.operation_watch import OperationWatch

FINE = {'outcome': 'command', 'reason': '', 'ood_level': 'fine'}


def stop(reason: str) -> dict[str, str]:
    return {**FINE, 'outcome': 'stop', 'reason': reason}


def test_a_failure_is_an_episode_that_ends_as_one_though_the_arm_stays_stopped():
    watch = OperationWatch(2.0)
    assert watch.see(FINE, 0.0) == []
    found = watch.see(stop('emergency stop'), 1.0)
    assert found == [('start', ''), ('label', 'event=failure: emergency stop')]
    assert watch.see(stop('emergency stop'), 2.0) == []
    assert watch.see(stop('emergency stop'), 3.0) == [('failure', '')]
    assert watch.see(stop('emergency stop'), 4.0) == [] and not watch.recording
    assert watch.see(FINE, 5.0) == []
    assert watch.see(stop('emergency stop'), 6.0)[0] == ('start', '')


def test_a_moment_out_of_distribution_lasts_until_it_is_over_and_may_become_a_failure():
    watch = OperationWatch(2.0)
    odd = {**FINE, 'ood_level': 'warn'}
    assert watch.see(odd, 0.0)[1] == ('label', 'event=out_of_distribution: observation')
    for second in range(1, 6):
        assert watch.see({**odd, 'ood_level': 'slow'}, second) == []
    assert watch.see(FINE, 6.0) == []
    assert watch.attend(7.5) == [('stop', '')]
    watch.see(odd, 10.0)
    found = watch.see(stop('out of distribution, stop: density'), 11.0)
    assert found[-1][1].startswith('event=out_of_distribution: observation; failure: out of distribution')
    assert watch.see(stop('out of distribution, stop: density'), 13.0) == [('failure', '')]


def test_stops_by_hand_a_released_device_and_another_program_are_interventions():
    watch = OperationWatch(1.0)
    assert watch.see(stop('stop was asked for'), 0.0)[1][1] == 'event=intervention: stop was asked for'
    assert watch.see(FINE, 0.5) == [] and watch.attend(1.6) == [('stop', '')]
    hold = {**FINE, 'outcome': 'hold'}
    assert watch.see({**hold, 'enabling_device': 'no message from the enabling device'}, 2.0) == []
    assert watch.see({**FINE, 'enabling_device': 'held'}, 3.0) == []
    found = watch.see({**hold, 'enabling_device': 'the enabling device is released'}, 4.0)
    assert found == [('start', ''), ('label', 'event=intervention: the enabling device is released')]
    assert watch.see({**hold, 'enabling_device': 'the enabling device is released'}, 5.0) == [('stop', '')]
    assert watch.see(stop('teleop commands on arm_controller/commands, too'), 9.0)[1][1].startswith('event=interv')


def test_an_episode_is_never_longer_than_a_minute():
    watch = OperationWatch(1.0)
    odd = {**FINE, 'ood_level': 'warn'}
    ends = [second for second in range(70) if ('stop', '') in watch.see(odd, float(second))]
    assert ends == [60]
