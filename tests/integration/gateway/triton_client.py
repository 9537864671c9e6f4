"""What an unchanged tritonclient gets of a gateway, as JSON: one line for each step.

A program of its own, since tritonclient's stubs have the names of ours: one process can hold only
one of them.
"""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio  # noqa: F401 - it can be imported beside the others
import tritonclient.http
from tritonclient.utils import InferenceServerException

LOW = {"score_threshold": 0.3}


def tell(step, told):
    sys.stdout.write(json.dumps({"step": step, "told": told}) + "\n")


def files(module, *contents, name="image"):
    tensor = module.InferInput(name, [len(contents)], "BYTES")
    tensor.set_data_from_numpy(np.array(contents, np.object_))
    return tensor


def pixels(module, array, name="pixels"):
    tensor = module.InferInput(name, list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array)
    return tensor


def shown(result):
    names = ("boxes", "scores", "class_ids", "counts")
    arrays = {name: result.as_numpy(name).tolist() for name in names}
    return {**arrays, "labels": [each.decode() for each in result.as_numpy("labels")]}


def failure(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def index(module, client):
    told = client.get_model_repository_index()
    if module is tritonclient.grpc:
        return [[each.name, each.version, each.state, each.reason] for each in told.models]
    return [[each[key] for key in ("name", "version", "state", "reason")] for each in told]


def config(module, client):
    """The configuration of a model, by lists."""
    if module is tritonclient.grpc:
        told = client.get_model_config("levels", "1", as_json=True)["config"]
    else:
        told = client.get_model_config("levels", "1")
    return [
        [told["name"], told["platform"], int(told.get("max_batch_size", 0))],
        *(
            [each["name"], each["data_type"], [int(size) for size in each["dims"]]]
            for each in told["input"] + told["output"]
        ),
        [each["optional"] for each in told["input"]],
    ]


def infer(module, client, picture, file):
    tell("index", index(module, client))
    tell("config", config(module, client))
    tell(
        "ready",
        [client.is_server_live(), client.is_server_ready(), client.is_model_ready("tandem")],
    )
    tell("files", shown(client.infer("tandem", [files(module, file, file)], parameters=LOW)))
    by_name = client.infer("levels", [files(module, file)], parameters=LOW)
    tell("by name", {**shown(by_name), "ready": client.is_model_ready("levels")})
    one, two = pixels(module, picture), pixels(module, np.stack([picture, picture]))
    tell("pixels", shown(client.infer("tandem", [one], parameters=LOW)))
    tell("batch", shown(client.infer("tandem", [two], "1", parameters=LOW)))
    wanted = [module.InferRequestedOutput("labels"), module.InferRequestedOutput("boxes")]
    chosen = client.infer("tandem", [one], outputs=wanted, parameters=LOW, request_id="x")
    outputs = chosen.get_response()
    if module is tritonclient.grpc:
        tell("chosen", [outputs.id, [each.name for each in outputs.outputs]])
    else:
        tell("chosen", [outputs["id"], [each["name"] for each in outputs["outputs"]]])
    bad = {
        "unknown model": lambda: client.infer("other", [one]),
        "unknown version": lambda: client.infer("tandem", [one], "2"),
        "no model": lambda: client.get_model_metadata("other"),
        "unknown input": lambda: client.infer("tandem", [files(module, b"a", name="picture")]),
        "two inputs": lambda: client.infer("tandem", [one, files(module, b"a")]),
        "wrong datatype": lambda: client.infer("tandem", [pixels(module, picture, "image")]),
        "wrong shape": lambda: client.infer("tandem", [pixels(module, picture[..., 0])]),
        "no picture": lambda: client.infer("tandem", [files(module, file, b"no picture")]),
        "unknown output": lambda: client.infer(
            "tandem", [one], outputs=[module.InferRequestedOutput("masks")]
        ),
        "classification": lambda: client.infer(
            "tandem", [one], outputs=[module.InferRequestedOutput("scores", class_count=3)]
        ),
        "bad parameter": lambda: client.infer("tandem", [one], parameters={"score_threshold": 7}),
        "no config": lambda: client.get_model_config("other"),
        "statistics": lambda: client.get_inference_statistics("tandem"),
        "all statistics": client.get_inference_statistics,
        "shared memory": client.get_system_shared_memory_status,
        "logging": client.get_log_settings,
        "load": lambda: client.load_model("tandem"),
        "unload": lambda: client.unload_model("tandem"),
    }
    tell("failures", {name: failure(call) for name, call in bad.items()})


def stream(client, file, count):
    """Request number 3 of `count` holds no picture."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(count):
        tensor = files(tritonclient.grpc, b"no picture" if number == 3 else file)
        client.async_stream_infer("tandem", [tensor], request_id=str(number), parameters=LOW)
    told = []
    for _ in range(count):
        result, error = answers.get(timeout=60)
        told.append(
            error.message() if error else [result.get_response().id, shown(result)["counts"]]
        )
    client.stop_stream()
    tell("stream", told)


def main():
    told = json.load(sys.stdin)
    file = bytes.fromhex(told["file"])
    picture = np.array(told["picture"], np.uint8)
    with tritonclient.grpc.InferenceServerClient(told["grpc"]) as client:
        infer(tritonclient.grpc, client, picture, file)
        stream(client, file, 24)
    with tritonclient.http.InferenceServerClient(told["http"]) as client:
        infer(tritonclient.http, client, picture, file)


if __name__ == "__main__":
    main()
