import pytest

from benchmarks.record import LEAST_NOISE, SuiteRun, append_run, compare, read_record
from common.domain.errors import ConfigurationError


def run(*values, machine="a PC", name="ratio"):
    return SuiteRun("abc", False, "2026-01-01T00:00Z", machine, {name: list(values)})


def judged(latest, earlier):
    (comparison,) = compare(latest, earlier)
    return comparison


def test_a_first_run_is_compared_with_nothing():
    comparison = judged(run(0.9, 0.8, 0.7), [])
    assert (comparison.before, comparison.is_slower) == (None, False)
    assert (comparison.median, comparison.spread) == (0.8, pytest.approx(0.2))


@pytest.mark.parametrize(
    ("latest", "is_slower"),
    [
        ((0.80, 0.81, 0.82), True),
        ((0.98, 0.99, 1.00), False),
        # Its own repetitions differ by more than it has fallen.
        ((0.70, 0.81, 0.95), False),
        # Faster is no slowdown.
        ((1.50, 1.51, 1.52), False),
    ],
)
def test_slower_is_what_falls_by_more_than_repetitions_differ(latest, is_slower):
    earlier = [run(0.99, 1.00, 1.01), run(0.98, 0.99, 1.01)]
    assert judged(run(*latest), earlier).is_slower is is_slower


def test_earlier_repetitions_that_differ_are_noise():
    assert not judged(run(0.80, 0.80, 0.80), [run(0.9, 1.0, 1.2)]).is_slower


def test_earlier_runs_that_differ_are_noise():
    earlier = [run(1.0, 1.0, 1.0), run(0.8, 0.8, 0.8), run(1.0, 1.0, 1.0)]
    assert not judged(run(0.81, 0.81, 0.81), earlier).is_slower


@pytest.mark.parametrize(("share", "is_slower"), [(0.9, False), (1.1, True)])
def test_the_least_noise(share, is_slower):
    value = 1 - share * LEAST_NOISE
    assert judged(run(value, value), [run(1.0, 1.0)]).is_slower is is_slower


def test_only_the_last_runs_of_the_same_kind_of_machine_count():
    old = [run(5.0, 5.0, 5.0)]
    others = [run(9.0, 9.0, 9.0, machine="a server")]
    recent = [run(1.0, 1.0, 1.0) for _ in range(5)]
    comparison = judged(run(1.0, 1.0, 1.0), [*old, *recent, *others])
    assert comparison.before == 1.0


def test_a_measurement_that_is_new_is_compared_with_nothing():
    assert judged(run(0.5, name="new"), [run(1.0)]).before is None


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "record.jsonl"
    assert read_record(path) == []
    append_run(path, run(0.123456, 0.9))
    append_run(path, run(0.5))
    assert read_record(path) == [run(0.1235, 0.9), run(0.5)]


@pytest.mark.parametrize("line", ["{", "[1]", '{"commit": "a"}'])
def test_a_line_that_is_no_run_is_named(tmp_path, line):
    path = tmp_path / "record.jsonl"
    append_run(path, run(1.0))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        read_record(path)
