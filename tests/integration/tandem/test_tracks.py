"""Numbers of objects survive what happens to the routes that serve them."""

import json
import subprocess
import sys
from contextlib import aclosing, closing

from tandem import LocalDetector
from tandem.client import DetectorClient
from tests.harness import TOY_BUNDLE, Cluster
from tests.streams import jpeg

PACE = ("--paced-milliseconds", "10")


async def test_numbers_survive_a_killed_stage_and_a_change_of_placement():
    with closing(Cluster(stage_arguments=PACE)) as cluster:
        async with DetectorClient(cluster.address) as client:
            ended = False

            async def frames():
                while not ended:
                    yield jpeg(3)

            answers = []
            killed = target = None
            async with aclosing(
                client.detect(frames(), score_threshold=0.3, track=True, max_in_flight=8)
            ) as results:
                async for result in results:
                    answers.append(result)
                    pair = result.node_pair
                    if len(answers) == 10:
                        killed = pair
                        cluster.stages[f"{pair.transformer}.transformer"].kill()
                    elif killed and not target and pair.transformer != killed.transformer:
                        state = await client.status()
                        target = next(
                            each.node_pair
                            for each in state.placements
                            if each.available and each.node_pair != pair
                        )
                        await client.set_placement(target)
                    ended = target is not None and pair == target
    assert ended
    assert [each.error for each in answers] == [None] * len(answers)
    numbers = [[one.track_id for one in each.detections] for each in answers]
    assert numbers[0] and None not in numbers[0]
    assert numbers == [numbers[0]] * len(answers)


def test_a_local_detector_numbers_objects():
    with LocalDetector(TOY_BUNDLE) as detector:
        results = list(detector.detect([jpeg(3)] * 4, score_threshold=0.3, track=True))
        plain = list(detector.detect([jpeg(3)], score_threshold=0.3))
    numbers = [[one.track_id for one in each.detections] for each in results]
    assert numbers[0] and None not in numbers[0]
    assert numbers == [numbers[0]] * 4
    found = [(one.box, one.score) for one in results[0].detections]
    assert found == [(one.box, one.score) for one in plain[0].detections]
    assert {one.track_id for one in plain[0].detections} == {None}


def test_the_command_tells_numbers_in_json(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg(3))
    told = subprocess.run(
        [
            *(sys.executable, "-m", "tandem", "detect", str(tmp_path), "--bundle", str(TOY_BUNDLE)),
            *("--threshold", "0.3", "--track", "--json"),
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    first, second = (json.loads(line)["detections"] for line in told.stdout.splitlines())
    numbers = [one["track_id"] for one in first]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert [one["track_id"] for one in second] == numbers
