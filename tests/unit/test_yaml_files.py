"""What a file of YAML may say, beside what YAML itself refuses."""

import pytest

from common.domain.errors import ConfigurationError
from common.yaml_files import line_of, parse_yaml


@pytest.mark.parametrize("text", ["{a: 1, b: 2, 'a': 3}", "- c: {a: 1, a: 1}", "1: a\n1: b"])
def test_a_key_stands_in_a_mapping_once(text):
    with pytest.raises(
        ConfigurationError, match="line ., column .*: a key stands here for the sec"
    ):
        parse_yaml(text, "file")


def test_keys_of_other_types_and_merged_ones_are_others():
    text = "a: &one {1: a, '1': b}\nb: {<<: *one, 1: c}\nc: {<<: *one}\nd: *one"
    own = {1: "a", "1": "b"}
    assert parse_yaml(text, "file") == {"a": own, "b": {1: "c", "1": "b"}, "c": own, "d": own}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("cameras",), 3),
        (("cameras", 1, "url"), 5),
        # What is not there is in the nearest that is.
        (("cameras", 1, "name"), 4),
        (("cameras", 7), 3),
        (("doors", 0), 2),
    ],
)
def test_a_value_is_found_in_its_line(path, line):
    text = "# ours\ncameras:\n- {name: a, url: b}\n- placement: full\n  url: c\n"
    assert line_of(text, path) == line
    assert line_of("a: [", path) is None
