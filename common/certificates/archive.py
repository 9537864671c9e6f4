"""Unpacks the folder of one node, which came as an archive, on the machine that it is for.

Runs where `cryptography` is not installed.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Dict, List

from common.domain.errors import ConfigurationError
from common.files import replace_bytes

_MOST_BYTES = 1 << 20
_MOST_FILES = 64
_SUFFIXES = (".crt", ".key")


def unpack(archive: Path, folder: Path) -> List[Path]:
    """Write the certificates and keys of an archive into a folder, keys readable to us alone.

    Whatever else an archive may hold (links, devices, other folders) is left out.

    Args:
        archive: a tar file of a holder's folder, compressed or not.
        folder: where the files go, which exists.

    Returns:
        The files that were written.

    Raises:
        ConfigurationError: it is no archive, or holds no certificate.
        OSError: it cannot be read, or the files cannot be written.
    """
    contents: Dict[str, bytes] = {}
    try:
        with tarfile.open(str(archive)) as members:
            for member in members:
                name = PurePosixPath(member.name).name
                if not (member.isfile() and name.endswith(_SUFFIXES)):
                    continue
                if member.size > _MOST_BYTES or len(contents) >= _MOST_FILES:
                    raise ConfigurationError(f"{archive} holds more than certificates")
                file = members.extractfile(member)
                contents[name] = file.read() if file else b""
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{archive} is no archive of a folder: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # Of a decompressor, which names no file.
        raise ConfigurationError(f"{archive} is damaged: {error}") from error
    if not contents:
        raise ConfigurationError(f"{archive} holds no certificates")
    written = []
    # Keys first: a certificate is taken up once its key is there.
    for name, content in sorted(contents.items(), key=lambda item: item[0].endswith(".crt")):
        path = folder / name
        if not (path.exists() and path.read_bytes() == content):
            replace_bytes(path, content, 0o600 if name.endswith(".key") else 0o644)
            if os.geteuid() == 0:
                # In a container, the files are for the user to whom the volume belongs.
                owner = folder.stat()
                os.chown(str(path), owner.st_uid, owner.st_gid)
            written.append(path)
    return written
