"""An experiment's folder: resuming it, and refusing another's."""

import json

import pytest

from common.domain.errors import ConfigurationError
from experiments.placements.cases import ordered_runs
from experiments.placements.folder import RUN_FILE, RunFolder
from experiments.placements.inputs import Model
from tests.unit.experiments.test_placement_cases import config

MODELS = {name: Model(name, None) for name in ("R18", "R34")}


def finish(folder: RunFolder, run) -> None:
    with folder.writing(run) as path:
        (path / RUN_FILE).write_text(json.dumps({"seconds": 2.5}))


def test_finished_runs_are_found_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.begin(config(), MODELS, resume=False)
    runs = ordered_runs(config())
    finish(folder, runs[3])
    folder.begin(config(), MODELS, resume=True)
    assert folder.finished(runs) == [runs[3]]
    assert folder.seconds_taken(runs) == {runs[3]: 2.5}
    assert len(folder.record()["sessions"]) == 2
    assert folder.config() == config()


def test_a_run_that_broke_off_is_not_finished_and_can_be_made_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.begin(config(), MODELS, resume=False)
    run = ordered_runs(config())[0]
    with pytest.raises(KeyboardInterrupt), folder.writing(run) as path:
        (path / RUN_FILE).write_text("{")
        raise KeyboardInterrupt
    assert folder.finished([run]) == []
    finish(folder, run)
    assert folder.finished([run]) == [run]


def test_a_folder_in_use_is_refused_unless_it_is_resumed(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin(config(), MODELS, resume=False)
    with pytest.raises(ConfigurationError, match="is in use: give --resume"):
        folder.begin(config(), MODELS, resume=False)


def test_another_configuration_s_runs_are_not_mixed_in(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin(config(), MODELS, resume=False)
    with pytest.raises(ConfigurationError, match="holds runs of other config"):
        folder.begin(config(seed=1), MODELS, resume=True)


def test_a_folder_without_an_experiment_says_so(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no experiment"):
        RunFolder(tmp_path).config()
