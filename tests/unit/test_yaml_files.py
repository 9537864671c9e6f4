"""What a file of YAML may say, beside what YAML itself refuses."""

import pytest

from common.domain.errors import ConfigurationError
from common.yaml_files import parse_yaml


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
