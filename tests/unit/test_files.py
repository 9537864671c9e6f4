import os
import signal
import subprocess
import sys
import textwrap

import pytest

from common.domain.errors import InvalidInputError
from common.files import refuse_overwriting, replace_text, replacing
from tests.harness import ROOT, clean_environment


def test_a_file_appears_whole(tmp_path):
    wanted = tmp_path / "a.json"
    wanted.write_text("old")
    with replacing(wanted) as beside:
        assert (beside.parent, beside.suffix) == (tmp_path, ".json")
        beside.write_text("half")
        assert wanted.read_text() == "old"
        beside.write_text("whole")
    assert wanted.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [wanted]


def test_what_fails_leaves_the_old_file(tmp_path):
    wanted = tmp_path / "a.json"
    wanted.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(wanted) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert wanted.read_text() == "old"
    assert list(tmp_path.iterdir()) == [wanted]


def test_a_killed_process_leaves_the_old_file(tmp_path):
    wanted = tmp_path / "a.json"
    wanted.write_text("old")
    program = """
        import os, signal, sys
        from pathlib import Path
        from common.files import replacing
        with replacing(Path(sys.argv[1])) as beside:
            beside.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(wanted)],
        cwd=str(ROOT),
        env=clean_environment(),
    )
    assert finished.returncode == -signal.SIGKILL
    assert wanted.read_text() == "old"


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    replace_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_the_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    replace_text(tmp_path / "replaced", "")
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "replaced")}
    assert len(modes) == 1


def test_a_long_name_is_no_reason_to_fail(tmp_path):
    name = "x" * 250 + ".mp4"
    replace_text(tmp_path / name, "content")
    assert os.listdir(str(tmp_path)) == [name]


def test_a_device_is_written_to_and_stays(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        replace_text(tmp_path / "full", "content")
    replace_text(tmp_path / "full", "")
    assert os.path.exists("/dev/full")


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(IsADirectoryError):
        replace_text(tmp_path, "content")


def test_an_input_is_known_under_any_name(tmp_path):
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_text("")
    other.write_text("")
    (tmp_path / "symbolic").symlink_to(source)
    os.link(str(source), str(tmp_path / "hard"))
    for name in ("source", "symbolic", "hard", f"../{tmp_path.name}/source"):
        with pytest.raises(InvalidInputError, match="would be lost"):
            refuse_overwriting(tmp_path / name, [other, source])
    refuse_overwriting(other, [source])
    refuse_overwriting(tmp_path / "new", [source, tmp_path / "missing"])
