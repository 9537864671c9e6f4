"""A set through a running system, and what comes of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from common.domain.codec import Codec
from common.domain.errors import ServiceError
from common.domain.frames import Image
from common.domain.placement import Placement
from detr.coco.average_precision import CocoScores, ResultRow, coco_scores
from tandem.bench import link_bytes
from tandem.client import DetectorClient
from tandem.evaluation.answers import Answer, AnswerFile
from tandem.evaluation.picture_set import PictureSet
from tandem.evaluation.sending import JpegSending, SentPicture, load
from tandem.results import FrameResult


@dataclass(frozen=True)
class EvaluationPlan:
    """How the pictures go through the system.

    Attributes:
        placement: which node runs which stage; None leaves it to the server.
        codec: how features travel; None is the model's own.
        jpeg: how each picture is encoded anew; None sends the files as they are.
        model: of a server, by its name; empty: its default model.
    """

    placement: Placement | None = None
    codec: Codec | None = None
    jpeg: JpegSending | None = None
    model: str = ""


@dataclass(frozen=True)
class Supply:
    """A picture that is made when it is sent.

    Attributes:
        image_id: of the picture in its set.
        name: for messages about it.
        load: makes it.
    """

    image_id: int
    name: str
    load: Callable[[], SentPicture]


@dataclass(frozen=True)
class Evaluation:
    """What a finished run found.

    Attributes:
        scores: COCO's figures and curves.
        answers: the answer to every picture, by ascending id.
        frames: number of pictures answered.
        fps: pictures answered a second; pauses between resumed runs do not count.
        bytes_per_frame: mean payload that crosses between edge and workstation (see
            `tandem.bench.link_bytes`); None if it is not known of a picture.
    """

    scores: CocoScores
    answers: tuple[Answer, ...]
    frames: int
    fps: float
    bytes_per_frame: float | None


async def stream(
    client: DetectorClient,
    pictures: PictureSet,
    plan: EvaluationPlan,
    file: AnswerFile,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Send every picture that has no answer yet, and keep the answers.

    Raises:
        ConfigurationError: the model gives a category another name than the set.
        ServiceError: pictures could not be answered; the others' answers are kept.
        TandemError: a file cannot be read, or the server was lost.
    """
    supplies = [
        Supply(one.image_id, one.path.name, partial(load, one, plan.jpeg))
        for one in pictures.pictures
    ]
    await stream_supplies(client, pictures, plan, supplies, file, advance=advance)


async def stream_supplies(
    client: DetectorClient,
    pictures: PictureSet,
    plan: EvaluationPlan,
    supplies: Sequence[Supply],
    file: AnswerFile,
    *,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Send what has no answer yet through one stream, and keep the answers; errors as `stream`.

    Args:
        client: of the system.
        pictures: the set that they are pictures of.
        plan: placement and codec; how pictures are encoded is the supplies' affair.
        supplies: what to send, in this order.
        file: gets the answers.
        advance: is called after each answer.
    """
    answered = {answer.image_id for answer in file.answers}
    remaining = [supply for supply in supplies if supply.image_id not in answered]
    sent: deque[tuple[Supply, SentPicture]] = deque()
    failures: list[str] = []
    before = time.perf_counter()

    def images() -> Iterator[Image]:
        for supply in remaining:
            prepared = supply.load()
            sent.append((supply, prepared))
            yield prepared.image

    async for result in client.detect(
        images(),
        placement=plan.placement,
        score_threshold=0.0,
        codec=plan.codec,
        model=plan.model,
    ):
        supply, prepared = sent.popleft()
        now = time.perf_counter()
        if result.error is not None:
            failures.append(f"{supply.name}: {result.error}")
        else:
            file.append(answer_of(pictures, supply.image_id, prepared, result, now - before))
            before = now
        advance()
    if failures:
        total = len(supplies)
        raise ServiceError(
            f"{len(failures)} of {total} frames could not be answered; the first is {failures[0]}; "
            "the answers of the others are kept, and the same command sends only these again"
        )


def answer_of(
    pictures: PictureSet,
    image_id: int,
    prepared: SentPicture,
    result: FrameResult,
    seconds: float,
) -> Answer:
    """What to keep of a result."""
    rows = (
        ResultRow(
            image_id=image_id,
            x=row.x * prepared.scale_x,
            y=row.y * prepared.scale_y,
            width=row.width * prepared.scale_x,
            height=row.height * prepared.scale_y,
            score=row.score,
            category_id=row.category_id,
        )
        for row in pictures.rows(image_id, result.detections)
    )
    return Answer(
        image_id=image_id,
        seconds=seconds,
        link_bytes=_crossed(prepared, result),
        rows=tuple(rows),
    )


def _crossed(prepared: SentPicture, result: FrameResult) -> int | None:
    if prepared.link_bytes is not None:
        return prepared.link_bytes
    placement = result.placement
    return None if placement is None else link_bytes(placement, result.timing)


def judge(pictures: PictureSet, answers: Sequence[Answer]) -> Evaluation:
    """Compare the answers to the truth.

    Args:
        pictures: the set.
        answers: one for each of its pictures, in any order.
    """
    ordered = tuple(sorted(answers, key=lambda answer: answer.image_id))
    rows = [row for answer in ordered for row in answer.rows]
    sizes = [answer.link_bytes for answer in ordered if answer.link_bytes is not None]
    seconds = sum(answer.seconds for answer in ordered)
    return Evaluation(
        scores=coco_scores(pictures.instances, rows, pictures.image_ids),
        answers=ordered,
        frames=len(ordered),
        fps=len(ordered) / seconds if seconds > 0 else 0.0,
        bytes_per_frame=sum(sizes) / len(sizes) if len(sizes) == len(ordered) else None,
    )
