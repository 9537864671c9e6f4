"""What the command prints: no secret, and nothing that steers the terminal, wherever it is from."""

import json

from rich.table import Table
from rich.text import Text

from common.domain.errors import UnavailableError
from tandem.cli.app import run_command
from tandem.cli.console import show_json, show_line, show_notice, show_table
from tandem.cli.running import exit_code_of

URL = "rtsp://admin:ge/heim@cam/live"
STEERING = "\x1b[2J\u202e\r"


def test_lines_notices_and_tables(capsys):
    table = Table("name", "health")
    table.add_row(f"a{STEERING}", Text(f"{URL}{STEERING}", style="red"))
    table.add_row("a", f"{URL}{STEERING}")
    show_line(f"{URL}{STEERING}")
    show_notice(f"{URL}{STEERING}")
    show_table(table)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "heim" not in text
        assert not set(STEERING[0] + "\u202e\r") & set(text)
        assert r"\x1b[2J\u202e\r" in text
    assert shown.out.count("rtsp://***@cam/live") == 3


def test_json_is_what_programs_can_read(capsys):
    show_json({"name": f"a{STEERING}\x7f", "error": f"{URL} is gone"})
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.strip().isprintable()
    assert json.loads(line) == {"name": f"a{STEERING}\x7f", "error": "rtsp://***@cam/live is gone"}


def test_errors_and_wrong_usage(capsys):
    def failing():
        raise UnavailableError(f"{URL}: {STEERING}")

    assert exit_code_of(failing, "tandem") == 1
    run_command(["detect", "--nope\x1b[2J", URL])
    shown = capsys.readouterr().err
    assert "heim" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
