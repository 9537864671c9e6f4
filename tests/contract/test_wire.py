"""Names and numbers that other people's clients rely on."""

import pytest
from google.protobuf.descriptor import FieldDescriptor

from protos.tandem.v1 import (
    detection_pb2,
    detector_pb2,
    models_pb2,
    operations_pb2,
    stage_pb2,
    tensor_pb2,
)

ENUMS = {
    detector_pb2.Placement: ["UNSPECIFIED", "FULL", "BACKBONE", "TRANSFORMER", "WORKSTATION"],
    detector_pb2.OverloadPolicy: ["UNSPECIFIED", "BLOCK", "DROP_OLDEST"],
    detector_pb2.PixelFormat: ["UNSPECIFIED", "RGB8", "BGR8", "GRAY8"],
    tensor_pb2.Codec: [
        *(
            "UNSPECIFIED",
            "FP32",
            "FP16",
            "INT8",
            "Q6",
            "Q5",
            "Q4",
            "Q3",
            "Q2",
            "LATENT_FINE",
            "LATENT",
            "LATENT_COARSE",
        )
    ],
}
FIELDS = {
    detector_pb2.DetectRequest: ["options", "frame"],
    detector_pb2.StreamOptions: [
        "placement",
        "score_threshold",
        "max_detections",
        "overload",
        "codec",
        "backbone_node",
        "transformer_node",
        "max_link_bits_per_second",
        "video",
        "track",
        "model",
    ],
    detector_pb2.Frame: [
        *("frame_id", "captured_at", "encoded", "raw", "encoded_video", "traceparent"),
    ],
    detector_pb2.RawImage: ["width", "height", "pixel_format", "data"],
    detector_pb2.DetectResponse: [
        "frame_id",
        "detections",
        "error",
        "dropped",
        "placement",
        "timing",
    ],
    detection_pb2.Detection: ["category_id", "category_name", "score", "box", "track_id"],
    stage_pb2.TransformerRequest: ["open", "features", "next_latents", "skipped_frame_ids"],
    stage_pb2.Opened: [
        *("node", "bundle_digest", "latent_rates", "codec", "takes_next_latents"),
    ],
    detection_pb2.Box: ["x_min", "y_min", "x_max", "y_max"],
}
METHODS = {
    (detector_pb2, "Detector"): {"Detect": (True, True)},
    (operations_pb2, "Operations"): {
        "GetStatus": (False, False),
        "WatchStatus": (False, True),
        "SetPlacement": (False, False),
        "DeployBundle": (False, False),
    },
    (models_pb2, "Models"): {"Watch": (False, True), "Deploy": (True, True)},
    (stage_pb2, "Backbone"): {"Process": (True, True)},
    (stage_pb2, "Transformer"): {"Process": (True, True)},
}


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.DESCRIPTOR.name)
def test_enum_values_count_from_zero_in_the_order_of_the_design(enum):
    names = [name.partition("_")[0] for name, _ in enum.items()]
    assert len(set(names)) == 1
    assert [value for _, value in enum.items()] == list(range(len(ENUMS[enum])))
    assert all(key.endswith(name) for key, name in zip(enum.keys(), ENUMS[enum]))


@pytest.mark.parametrize("message", FIELDS, ids=lambda message: message.DESCRIPTOR.name)
def test_fields_are_numbered_in_order(message):
    fields = message.DESCRIPTOR.fields
    assert [(field.name, field.number) for field in fields] == [
        (name, number) for number, name in enumerate(FIELDS[message], 1)
    ]


@pytest.mark.parametrize("service", METHODS, ids=lambda service: service[1])
def test_services_have_their_methods(service):
    module, name = service
    descriptor = module.DESCRIPTOR.services_by_name[name]
    assert descriptor.full_name == f"tandem.v1.{name}"
    streaming = {
        method.name: (method.client_streaming, method.server_streaming)
        for method in descriptor.methods
    }
    assert streaming == METHODS[service]


def test_frame_ids_are_64_bits_wide():
    field = detector_pb2.Frame.DESCRIPTOR.fields_by_name["frame_id"]
    assert field.type == FieldDescriptor.TYPE_UINT64


def test_a_frame_is_answered_with_exactly_one_of_three():
    (result,) = detector_pb2.DetectResponse.DESCRIPTOR.oneofs
    assert [field.name for field in result.fields] == ["detections", "error", "dropped"]
