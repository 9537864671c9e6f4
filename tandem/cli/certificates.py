"""`tandem certificates init`, `issue` and `show`: a small authority, and what it issues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from common.certificates.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS
from common.certificates.folder import AUTHORITY_FOLDER, AuthorityFolder, Issued, set_up
from common.certificates.reading import CertificateReport, certificate_files, report_on
from common.domain.placement import EDGE, WORKSTATION
from common.security.identity import Identity, Role
from tandem.cli.console import show_json, show_line, show_notice
from tandem.cli.options import JsonOption

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of the authority and of all that it issues.")
]
DaysOption = Annotated[
    int,
    typer.Option(
        min=1, max=AUTHORITY_DAYS, metavar="DAYS", help="How long certificates are valid."
    ),
]


def init(
    folder: FolderArgument,
    *,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE=HOST",
            help="A name or an address by which others reach a node, such as edge=192.168.1.20; "
            "may be repeated. NODE, NODE.local and localhost are always there.",
        ),
    ] = None,
    days: DaysOption = CERTIFICATE_DAYS,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="If the authority is there already, issue what is missing, lacks a host or "
            "expires within 30 days, and leave the rest.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make an authority, and certificates for a pair of machines and those who call them.

    DIR/edge and DIR/workstation then hold what each machine needs, DIR/client, DIR/operator and
    DIR/prometheus what each caller needs. DIR/authority holds the keys that sign: it stays where
    it is, and whoever has it can be anybody.
    """
    authority = AuthorityFolder(folder)
    is_new = not (renew and authority.exists())
    hosts = _hosts_by_node(host or [])
    if is_new:
        authority = AuthorityFolder.create(folder)
    issued = set_up(authority, hosts, days)
    if json:
        show_json([issued_to_json(each) for each in issued])
        return
    if is_new:
        show_line(f"made an authority in {folder / AUTHORITY_FOLDER}, valid {AUTHORITY_DAYS} days")
    for each in issued:
        show_line(_sentence(each))
    if not issued:
        show_line("nothing is due")
    _tell_next(folder, hosts.get(EDGE, [f"{EDGE}.local"])[0])


def issue(
    folder: FolderArgument,
    *,
    role: Annotated[Role, typer.Option(help="What the holder is, which decides what it may call.")],
    name: Annotated[
        str,
        typer.Option(
            "--node",
            "--name",
            metavar="NAME",
            help="Node of a service; name of a client, an operator or a monitor.",
        ),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A name or an address by which others reach a service; may be repeated. Those of "
            "the certificate that is there stay if left out.",
        ),
    ] = None,
    days: DaysOption = CERTIFICATE_DAYS,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key, too, where there is one already.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Issue one certificate, or issue it again in place; running services take it up.

    It stands in DIR/NAME/ROLE.crt, its key in DIR/NAME/ROLE.key.
    """
    issued = AuthorityFolder.open(folder).issue(Identity(role, name), host, days, new_key)
    if json:
        show_json(issued_to_json(issued))
    else:
        show_line(_sentence(issued))


def show(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="A certificate, or a folder of some.")
    ],
    json: JsonOption = False,
) -> None:
    """Show whose certificates these are, for which hosts and how long, and what is wrong."""
    reports = [report_on(each) for each in certificate_files(path)]
    if json:
        show_json([report_to_json(each) for each in reports])
        return
    for each in reports:
        for line in _lines(each, path):
            show_line(line)
    for each in reports:
        for warning in each.warnings:
            show_notice(f"{each.path}: {warning}")


def issued_to_json(issued: Issued) -> dict[str, Any]:
    """A certificate that was issued, by name."""
    return {**report_to_json(report_on(issued.certificate)), "key": str(issued.key)}


def report_to_json(report: CertificateReport) -> dict[str, Any]:
    """What a certificate says, by name; times in ISO 8601."""
    return {
        "path": str(report.path),
        "identity": report.identity,
        "subject": report.subject,
        "authority": report.is_authority,
        "not_before": report.not_before.isoformat(),
        "not_after": report.not_after.isoformat(),
        "hosts": list(report.hosts),
        "fingerprint": report.fingerprint,
        "serial": report.serial,
        "warnings": list(report.warnings),
    }


def _lines(report: CertificateReport, shown: Path) -> Iterator[str]:
    """A certificate for people, after a line with its file's name."""
    yield str(report.path.relative_to(shown) if shown.is_dir() else report.path)
    kind = " (an authority, which signs others)" if report.is_authority else ""
    for name, value in (
        ("identity", report.identity or f"none; {report.subject}{kind}"),
        ("valid", f"{report.not_before:%Y-%m-%d} to {report.not_after:%Y-%m-%d}"),
        ("hosts", ", ".join(report.hosts)),
        ("SHA-256", report.fingerprint),
    ):
        if value:
            yield f"  {name:<9} {value}"


def _hosts_by_node(told: list[str]) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = {}
    for each in told:
        node, equals, host = each.partition("=")
        if not (node and equals and host):
            raise typer.BadParameter(
                f"{each!r} is not NODE=HOST, such as {EDGE}=192.168.1.20", param_hint="--host"
            )
        hosts.setdefault(node, []).append(host)
    return hosts


def _sentence(issued: Issued) -> str:
    until = report_on(issued.certificate).not_after
    return f"issued {issued.holder.uri}, valid until {until:%Y-%m-%d}: {issued.certificate}"


def _tell_next(folder: Path, edge_host: str) -> None:
    show_line(f"Copy {folder / EDGE} to the edge device, and nothing else of {folder}:")
    show_line(f"scp -r {folder / EDGE} {edge_host}:certificates")
    show_line(f"The services here take theirs from {folder / WORKSTATION}.")
