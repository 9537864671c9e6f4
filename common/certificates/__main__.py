"""`python -m common.certificates`: what the Compose files run before the services start.

    python -m common.certificates init DIR [--host NODE=HOST ...] [--group-reads HOLDER]
        [--operator-token NODE]
    python -m common.certificates unpack ARCHIVE DIR

Both may be repeated: they do what is left to do, and change nothing else. People use
`tandem certificates`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Dict, List, Sequence

from common.domain.errors import TandemError
from common.domain.redaction import fit_to_show

PROGRAM = "python -m common.certificates"
# What a server listens on may stand where a host is asked for; nobody can call it by that.
_EVERYWHERE = ("0.0.0.0", "::", "[::]")


def main(arguments: Sequence[str]) -> int:
    """Run a command line; returns 0, or 2 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "init":
            _init(options.folder, _hosts(options.host), options.group_reads)
            if options.operator_token:
                _make_token(options.folder, options.operator_token)
        else:
            _unpack(options.archive, options.folder)
    except TandemError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}")
    return 0


def _init(folder: Path, hosts: Dict[str, List[str]], group_reads: Sequence[str]) -> None:
    from common.certificates.folder import AuthorityFolder, set_up

    authority = AuthorityFolder(folder)
    if not authority.exists():
        authority = AuthorityFolder.create(folder)
    for each in set_up(authority, hosts):
        _say(f"issued {each.holder.uri}: {each.certificate}")
    # Programs of other people run as users of their own, which Compose puts into our group.
    for holder in group_reads:
        os.chmod(str(folder / holder), 0o750)
        for key in (folder / holder).glob("*.key"):
            os.chmod(str(key), 0o640)


def _make_token(folder: Path, node: str) -> None:
    from common.certificates.tokens import set_up_operator_token

    made = set_up_operator_token(folder, node)
    if made is not None:
        _say(f"made the operator's token: {made}")


def _unpack(archive: Path, folder: Path) -> None:
    from common.certificates.archive import unpack

    # What was unpacked once need not be kept.
    if not archive.exists() and any(folder.glob("*.crt")):
        return
    for path in unpack(archive, folder):
        _say(f"unpacked {path}")


def _hosts(told: Sequence[str]) -> Dict[str, List[str]]:
    hosts: Dict[str, List[str]] = {}
    for each in told:
        node, _, host = each.partition("=")
        if host and host not in _EVERYWHERE:
            hosts.setdefault(node, []).append(host)
    return hosts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Certificates for containers.")
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make an authority, and issue what is missing or due")
    init.add_argument("folder", metavar="DIR", type=Path)
    init.add_argument("--host", action="append", default=[], metavar="NODE=HOST")
    init.add_argument("--group-reads", action="append", default=[], metavar="HOLDER")
    init.add_argument("--operator-token", metavar="NODE", help="whose services accept it")
    unpacking = commands.add_parser("unpack", help="put what another machine made into a folder")
    unpacking.add_argument("archive", metavar="ARCHIVE", type=Path)
    unpacking.add_argument("folder", metavar="DIR", type=Path)
    return parser


def _say(text: str) -> None:
    sys.stdout.write(fit_to_show(text) + "\n")


def _fail(text: str) -> int:
    sys.stderr.write(f"{PROGRAM}: {fit_to_show(text)}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
