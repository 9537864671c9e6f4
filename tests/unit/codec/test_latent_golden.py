"""The format of latents cannot change silently: stored payloads, and what they hold."""

import numpy as np
import pytest

from common.bundle import LatentRate
from common.codec.latent import LatentCoder
from common.codec.latent_levels import CodedLevels
from tests.unit.codec.latents import invented

SHAPE = (5, 4, 6)
CODER = LatentCoder(LatentRate(step=16), invented(5))
PAYLOADS = [
    (
        "00804020100804020100804020100fd7ffc440201008040a0101ff113130410410404040c040d74f7f7fc7"
        "92cbf55bef194611842919d6338c604081020100804006d53041041010080403fa4924444410410410100c"
        "2d780b9e766efff924e93592e42308463184a308c21082140839efbe5fdd53133113310c10470410410410"
        "2140810204081021c09f5f71d6dfaa2662226a2a1d80"
    ),
    "e783125c2e02ec0280700a03d30e413414208d3113130410c08200",
    "81df7e4540850a0101a4cc3020702cbcf21818080828208b349a6b4211a0054f38002000",
    "8765690000",
    (
        "8b810204081020408102040810204081008040201002004008888208208040201008040201008040201008"
        "04020040080110410410410101010101002004008010020040080100200400801248208208208208208208"
        "2082082082020202020202020202020202020202020202008020080200802008028e69efbfffffffffffdb"
        "82faffa9111711135913113311911111111111111111111111111111111111111111111111169431c30410"
        "410410410410410410410410411204185020408102040810204081020408102040807fffffffffffffff88"
        "88888888888888888888888888888888888888888888888208208208208208208208208208208208200002"
        "fffffffc000000003f7ffffff80017ffffffff888888888888888888888888fffffffffffffffed1111111"
        "11111111111111111111111111111111111111111041041041041041041041041041041041040001ffffff"
        "ff0000000032fffffff6000ffffffffa222222222222222222222222492492492492492492492492492492"
        "49249249249249249249249249249249249249249249249249249249249000000000000000000000000000"
        "00000000000924924924924924924924924924924924924924924924924924924924924924924924924924"
        "92492492492492400000000000000000400800000000000000003ffffffffffffffffeffffffffffffffff"
        "ffffffffffffffffffffffffffc21084210842108461084210842108421084210842108421084210842108"
        "423084210842108421084210842108c2108421084210842108421084211842108461084210842100008450"
        "46c812082200c21006001ffffc7d7c7efafe7fffffb7fff7fafffebd41fa7ebf77c3daf0190d46fc246093"
        "18d09ac525fecc63162e6fcf91e17d901a69b239cf1c32dfb8bf07eda87287df69ad26d25cff834367ef8c"
        "f662d8db937dfd2344cdbee54501ce7f5cd8ec1e0e0bbe76f3f7cadcbf5a7895b304fe9e8be839edd5620f"
        "7ee2ee879d8f7c06c6c7ee8f1071bb7672a41c3e3cc5eaa5ba819b491fdea6870cae3ae7914c"
    ),
]
CHECKS = [103, 1, 7, 11, 51]


def frames():
    """By integers, so that they are the same everywhere; the last one is large and all new."""
    places = np.arange(120).reshape(SHAPE)
    first = places**2 * 31 % 97 // 12 - 4
    second = np.where(places % 7 == 3, first + places % 5 - 2, first)
    third = np.where(places % 11 < 4, second - 1, second)
    return [first, second, third, third, places**3 % 4096 - 2048]


def coded():
    """Each frame with its reference."""
    reference = None
    for levels in frames():
        now = CodedLevels.after(reference, levels.astype(np.int16))
        yield now, reference
        reference = now


def test_payloads_are_those_of_the_first_release():
    assert [CODER.encode(now, reference).hex() for now, reference in coded()] == PAYLOADS


@pytest.mark.parametrize("index", range(5))
def test_a_payload_of_the_first_release_is_decoded(index):
    now, reference = list(coded())[index]
    found = CODER.decode(bytes.fromhex(PAYLOADS[index]), SHAPE, reference)
    np.testing.assert_array_equal(found.levels, now.levels)


def test_the_check_of_a_reference_is_that_of_the_first_release():
    assert [now.check for now, _ in coded()] == CHECKS
