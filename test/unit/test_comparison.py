"""Two validations are compared by scenario and by mode."""

from __future__ import annotations

import pytest
from test_gate import outcomes, report, save, write

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import GateError
from vdd_ros.validation.comparison import compare_reports


def test_success_and_modes_of_two_reports_and_which_changes_are_more_than_chance(tmp_path, capsys):
    artifact = save(tmp_path / 'student')
    before = report(artifact, nominal=outcomes(190, 200), fault=outcomes(100, 200), left_out=outcomes(1, 2))
    after = report(artifact, nominal=outcomes(188, 200, modes=3), fault=outcomes(40, 200))
    found = compare_reports(before, after)
    assert [(change.name, change.verdict) for change in found.scenarios] == [('nominal', ''), ('fault', 'lower')]
    assert (found.scenarios[0].before, found.scenarios[0].after) == (0.95, 0.94)
    assert [change.verdict for change in found.modes['nominal']] == ['', '', '', 'lower']
    assert found.modes['nominal'][3].after == 0
    assert found.missing == ('left_out',)
    folders = [str(write(tmp_path / name, values)) for name, values in (('one', before), ('two', after))]
    assert main(['compare', *folders, '--check']) == 1
    assert 'left_out: not in the second report' in capsys.readouterr().out
    assert not main(['compare', folders[0], folders[0], '--check'])


def test_reports_of_other_tasks_and_without_a_common_scenario_are_refused(tmp_path):
    one = report(save(tmp_path / 'student'))
    with pytest.raises(GateError, match='the same task'):
        compare_reports(one, one | {'mode_names': ['x']})
    with pytest.raises(GateError, match='a scenario that both'):
        compare_reports(one, one | {'scenarios': []})
