"""What each latent rate keeps: AP on annotated pictures, which the bundle tells from then on."""

from __future__ import annotations

from collections.abc import Mapping

from common.bundle import Bottleneck, Bundle, write_bundle
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec.latent_calibration import with_average_precision
from common.domain.codec import LATENT_CODECS, Codec
from common.domain.errors import ConfigurationError, ServiceError
from common.domain.placement import Placement
from tandem.cli.console import frame_progress
from tandem.cli.options import detector
from tandem.client import DetectorClient
from tandem.cluster import ClusterOptions
from tandem.evaluation.answers import Answer
from tandem.evaluation.picture_set import Picture, PictureSet
from tandem.evaluation.run import answer_of, judge
from tandem.evaluation.sending import load


async def measure_rates(
    bundle: Bundle, pictures: PictureSet, *, visible: bool
) -> dict[Codec, float]:
    """AP of each latent rate, 0 to 1, through local nodes.

    Pictures that do not follow each other tell nothing of a code over time, so each goes through
    a stream of its own and is coded alone.

    Args:
        bundle: with a calibrated bottleneck.
        pictures: to send, and what is in them.
        visible: whether a terminal shows the progress.

    Raises:
        ConfigurationError: the model gives a category another name than the pictures do.
        TandemError: a picture could not be answered, or the nodes were lost.
    """
    found = {}
    async with detector(ClusterOptions(bundle.folder)) as client:
        for codec in LATENT_CODECS:
            answers = []
            total = len(pictures.pictures)
            with frame_progress(f"measuring {codec.value}", total, visible) as advance:
                for picture in pictures.pictures:
                    answers.append(await _answer(client, pictures, picture, codec))
                    advance()
            found[codec] = judge(pictures, answers).scores.figures["AP"]
    return found


async def _answer(
    client: DetectorClient, pictures: PictureSet, picture: Picture, codec: Codec
) -> Answer:
    sent = load(picture, None)
    results = client.detect(
        [sent.image], placement=Placement.BACKBONE, score_threshold=0.0, codec=codec
    )
    (result,) = [each async for each in results]
    if result.error is not None:
        raise ServiceError(f"{picture.path.name}: {result.error}")
    return answer_of(pictures, picture.image_id, sent, result, 0.0)


def write_precision(bundle: Bundle, average_precision: Mapping[Codec, float]) -> Bundle:
    """Note the AP of rates in `bundle.json`; nothing else of the bundle changes but its digest.

    Raises:
        ConfigurationError: the bundle has no calibrated bottleneck, or a file of it was changed.
    """
    # Their digests are written anew below, and must not bless a changed file.
    bundle.check_files()
    bottleneck = with_average_precision(calibrated_bottleneck(bundle), average_precision)
    return write_bundle(
        bundle.folder, bundle.manifest.model_copy(update={"bottleneck": bottleneck})
    )


def calibrated_bottleneck(bundle: Bundle) -> Bottleneck:
    """The bottleneck whose rates can be measured.

    Raises:
        ConfigurationError: there is none, or it has no tables yet.
    """
    bottleneck = bundle.manifest.bottleneck
    if bottleneck is None:
        raise ConfigurationError(
            f"{bundle.folder} has no bottleneck, so there are no latent rates whose AP could be "
            "measured: tandem evaluate measures that of any codec"
        )
    measured = all(rate.measured for rate in bottleneck.rates.values())
    if not measured or LATENT_TABLES_NAME not in bundle.manifest.files:
        raise ConfigurationError(
            f"the bottleneck of {bundle.folder} is not calibrated yet: run tandem model calibrate "
            "on a video first, without --annotations"
        )
    return bottleneck
