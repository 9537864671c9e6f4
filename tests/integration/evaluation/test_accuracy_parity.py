"""AP through the services equals that of the model run directly, ours and transformers'."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

from common.bundle import load_bundle
from detr.coco.average_precision import FIGURES
from detr.coco.folder import open_coco
from detr.importing.layouts import LAYOUTS
from detr.model import DETR
from detr.training.evaluation import Detector, evaluate, torch_predictor
from tests.harness import ROOT
from tests.integration.evaluation.clip_set import NETWORK_SIZE
from tests.integration.evaluation.conftest import BUNDLE
from tests.integration.tandem.commands import json_of, tandem

WEIGHTS = ROOT / "models/records/demo-r50/weights.safetensors"
# Equal to four digits.
TOLERANCE = 5e-5
# A model that finds nothing agrees with everything.
LEAST_AP = 0.55


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The services have the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights():
    """Under the official names."""
    return {name: value.float() for name, value in load_file(WEIGHTS).items()}


def through_the_services(cluster, pictures, output, placement="backbone"):
    where = ("--server", cluster.address, "--output", output)
    how = ("--placement", placement, "--codec", "fp32", "--json")
    return json_of(tandem("evaluate", *pictures.options, *where, *how))


def assert_equal(told, figures):
    assert figures["AP"] > LEAST_AP
    assert {name: told[name] for name in FIGURES} == pytest.approx(figures, abs=TOLERANCE)


@pytest.fixture(scope="module")
def torch_figures(clip_set, weights):
    """Of the model in one piece, without any service."""
    manifest = load_bundle(BUNDLE).manifest
    model = DETR(manifest.architecture)
    model.load_state_dict(weights)
    direct = Detector(
        torch_predictor(model), manifest.input, manifest.normalization, manifest.categories
    )
    return evaluate(direct, open_coco(clip_set.images, clip_set.annotations))


@pytest.mark.parametrize("placement", ["auto", "full", "backbone", "transformer", "workstation"])
def test_services_equal_the_torch_model(
    trained_cluster, clip_set, torch_figures, tmp_path, placement
):
    told = through_the_services(trained_cluster, clip_set, tmp_path, placement)
    assert_equal(told, torch_figures)
    assert told["frames"] == len(clip_set.content()["images"])


def test_services_equal_transformers(trained_cluster, network_set, weights, tmp_path):
    model = transformers_model(load_bundle(BUNDLE).manifest.architecture, weights)
    results = transformers_results(model, network_set)
    told = through_the_services(trained_cluster, network_set, tmp_path)
    assert_equal(told, official_figures(network_set.annotations, results))


def test_results_file_gives_pycocotools_the_same_figures(trained_cluster, clip_set, tmp_path):
    told = through_the_services(trained_cluster, clip_set, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert official_figures(clip_set.annotations, results) == {name: told[name] for name in FIGURES}


def transformers_model(architecture, official):
    """transformers' DETR with the trained weights, its last stage dilated as in DETR-DC5."""
    width = architecture.base_width
    resnet = ResNetConfig(
        embedding_size=width,
        hidden_sizes=[4 * width * 2**stage for stage in range(4)],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False,
        backbone_config=resnet,
        encoder_layers=architecture.encoder_layers,
        decoder_layers=architecture.decoder_layers,
        d_model=architecture.hidden_dim,
        encoder_attention_heads=architecture.heads,
        decoder_attention_heads=architecture.heads,
        encoder_ffn_dim=architecture.feedforward_dim,
        decoder_ffn_dim=architecture.feedforward_dim,
        num_queries=architecture.queries,
        num_labels=architecture.classes,
    )
    model = DetrForObjectDetection(config).eval()
    (layout,) = (each for each in LAYOUTS if each.name == "hugging face in memory, no timm")
    state = {}
    for name, value in official.items():
        keys = layout.keys(name)
        state.update(zip(keys, value.chunk(len(keys)), strict=True))
    model.load_state_dict(state)
    dilate(model)
    return model


def dilate(model):
    """What torchvision's `replace_stride_with_dilation` does to layer 4, as DETR-DC5 has it."""
    ((_, stage),) = (
        named for named in model.named_modules() if named[0].endswith("encoder.stages.3")
    )
    for name, layer in stage.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3) and not name.startswith("layers.0."):
                layer.dilation = layer.padding = (2, 2)


def transformers_results(model, pictures):
    """Detections in COCO's results format, one picture a batch, padded as the bundle's input is."""
    manifest = load_bundle(BUNDLE).manifest
    mean, std = (
        torch.tensor(each)[:, None, None] for each in vars(manifest.normalization).values()
    )
    ids = {each.class_index: each.id for each in manifest.categories}
    processor = DetrImageProcessorPil()
    results = []
    for listed in pictures.content()["images"]:
        rgb = cv2.imread(str(pictures.images / listed["file_name"]))[:, :, ::-1]
        height, width = rgb.shape[:2]
        pixels, mask = torch.zeros(1, 3, *NETWORK_SIZE), torch.zeros(1, *NETWORK_SIZE).long()
        values = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1) / 255
        pixels[0, :, :height, :width] = (values - mean) / std
        mask[0, :height, :width] = 1
        with torch.inference_mode():
            output = model(pixels, pixel_mask=mask)
        (found,) = processor.post_process_object_detection(
            output, threshold=0.0, target_sizes=[(height, width)]
        )
        rows = zip(*(found[key].tolist() for key in ("scores", "labels", "boxes")), strict=True)
        results += [
            {
                "image_id": listed["id"],
                "category_id": ids[label],
                "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                "score": score,
            }
            for score, label, (x_min, y_min, x_max, y_max) in rows
        ]
    return results


def official_figures(annotations, results):
    """pycocotools on its own, by its documented use."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        judged = COCOeval(truth, truth.loadRes(results), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return dict(zip(FIGURES, judged.stats.tolist(), strict=True))
