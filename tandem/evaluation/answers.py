"""The answers of a run, kept as JSON lines while they come, so that a stopped run can resume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from common.domain.errors import ConfigurationError
from common.files import replace_text
from detr.coco.average_precision import ResultRow

Settings = Mapping[str, Any]
"""What must not change between a run and its continuation; JSON."""


@dataclass(frozen=True)
class Answer:
    """What is kept of one picture.

    Attributes:
        image_id: of the picture.
        seconds: between the answer before it (or the run's start) and its own.
        link_bytes: payload that crossed between the nodes; None if that is not known.
        rows: its detections, in the pixels of the set's picture.
    """

    image_id: int
    seconds: float
    link_bytes: int | None
    rows: tuple[ResultRow, ...]


class AnswerFile:
    """Answers on disk, one a line below a line of settings; a context manager.

    Attributes:
        answers: all that are in the file, in the order of their lines.
        resumed: how many of them were there when it was opened.
    """

    answers: list[Answer]
    resumed: int

    def __init__(self, path: Path, settings: Settings) -> None:
        """Name the file and what it has to be of; nothing is opened yet."""
        self._path = path
        self._settings = dict(settings)
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the file, or begin it.

        Raises:
            ConfigurationError: it is of a run with other settings, or is no such file.
        """
        self.answers = []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._read()
        self.resumed = len(self.answers)
        # A line that a killed run left half-written is dropped.
        lines = [json.dumps(self._settings), *map(_to_line, self.answers)]
        replace_text(self._path, "".join(f"{line}\n" for line in lines))
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; it stays where it is."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, answer: Answer) -> None:
        """Write one answer at once, so that nothing is lost when the run is ended."""
        if self._file is None:
            raise RuntimeError("AnswerFile is used outside of its 'with' block")
        self._file.write(_to_line(answer) + "\n")
        self._file.flush()
        self.answers.append(answer)

    def remove(self) -> None:
        """Delete the file, once its run is finished."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        text = self._path.read_text(encoding="utf-8")
        # What follows the last line's end was being written when the run was killed.
        first, *lines = text[: text.rfind("\n") + 1].splitlines() or ["{}"]
        try:
            written = json.loads(first)
            self.answers = [_from_line(line) for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{self._path} is not a run of tandem evaluate") from error
        if written:
            _refuse_others(self._path, written, self._settings)


def _refuse_others(path: Path, written: Settings, settings: Settings) -> None:
    """Raise if the file's settings are not ours, naming each that differs."""
    names = [name for name in {**written, **settings} if written.get(name) != settings.get(name)]
    if names:
        changes = "; ".join(
            f"{name} was {_shown(written.get(name))}, is {_shown(settings.get(name))}"
            for name in names
        )
        raise ConfigurationError(
            f"{path} is of an unfinished run with other settings ({changes}): give another "
            "--output, or delete the file to begin anew"
        )


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


def _to_line(answer: Answer) -> str:
    return json.dumps(
        {
            "image_id": answer.image_id,
            "seconds": round(answer.seconds, 6),
            "link_bytes": answer.link_bytes,
            "detections": [row[1:] for row in answer.rows],
        }
    )


def _from_line(line: str) -> Answer:
    content = json.loads(line)
    image_id = int(content["image_id"])
    return Answer(
        image_id=image_id,
        seconds=float(content["seconds"]),
        link_bytes=content["link_bytes"],
        rows=tuple(ResultRow(image_id, *detection) for detection in content["detections"]),
    )


def results(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Detections in COCO's results format; boxes are x, y, width, height in pixels."""
    return [
        {
            "image_id": row.image_id,
            "category_id": row.category_id,
            "bbox": [row.x, row.y, row.width, row.height],
            "score": row.score,
        }
        for answer in answers
        for row in answer.rows
    ]
