import pytest

from common.domain.errors import UnavailableError
from tandem.cli.running import exit_code_of


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UnavailableError("nobody\nanswers"), 1, "tandem: nobody answers\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "tandem: /x: Permission denied\n"),
        (ZeroDivisionError("x"), 1, "tandem: internal error: ZeroDivisionError: x\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_failure_is_one_sentence(capsys, error, code, sentence):
    assert exit_code_of(raising(error), "tandem") == code
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (2, 2)])
def test_a_command_that_succeeds_decides_its_code(returned, code):
    assert exit_code_of(lambda: returned, "tandem") == code
