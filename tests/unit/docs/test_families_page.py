"""The page about families says of published sizes what their record says."""

import json

from tests.harness import ROOT

RECORD = ROOT / "docs/parity/published-sizes.jsonl"
PAGE = (ROOT / "docs/families.md").read_text()
ROWS = [json.loads(line) for line in RECORD.read_text().splitlines()]


def shown(row):
    """A record's row as the page has it."""
    files = (row["file_bytes"][half] / 1e6 for half in ("backbone", "transformer"))
    discrete = ", discrete" if row["sampling"] == "discrete" else ""
    cells = [
        f"`{row['model']}`{discrete}",
        f"{row['parameters'] / 1e6:.1f}",
        ", ".join(f"{size:.1f}" for size in files),
        f"{row['halves_difference']:.0e}",
        f"{row['logit_difference']:.0e}",
        f"{row['box_difference_pixels']:.0e}",
        f"the same {row['compared']}" if row["same_order"] else "another",
        f"{row['peak_gib']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_is_the_record():
    heading = "| model | parameters, M |"
    (table,) = [part for part in PAGE.split("\n\n") if part.startswith(heading)]
    assert table.splitlines()[2:] == [shown(row) for row in ROWS]


def test_no_published_size_is_left_out():
    """Another size, or one whose comparison was given up, has to have a row."""
    from experiments.family_parity.subjects import NAMES  # its import of torch is slow

    assert [row["model"] for row in ROWS if row["sampling"] is None] == list(NAMES)


def test_every_recorded_size_is_as_transformers_computes_it():
    for row in ROWS:
        assert row["same_order"], row["model"]
        assert row["halves_difference"] <= 1e-4
        assert row["logit_difference"] <= 1e-4
        assert row["box_difference_pixels"] <= 0.1


def test_what_discrete_sampling_moves_is_what_was_recorded():
    told = {row["model"]: row["from_default"] for row in ROWS if "from_default" in row}
    one, other = told["d_fine_n"], told["rt_detr_v2_r18"]
    text = " ".join(PAGE.split())
    for quantity in ("median_box_pixels", "largest_box_pixels"):
        assert f"{one[quantity]:.1f} pixels with D-FINE N and {other[quantity]:.1f}" in text
    for quantity in ("median_logit", "largest_logit"):
        assert f"{one[quantity]:.2f} and {other[quantity]:.2f}" in text
