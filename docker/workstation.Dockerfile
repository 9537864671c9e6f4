# One image for the backbone, the transformer and the orchestrator on a workstation or any PC.
#
#   docker build -f docker/workstation.Dockerfile -t tandem-workstation .
#   docker run tandem-workstation services.backbone --help
#
# For an NVIDIA GPU: with ONNX Runtime's CUDA provider (`--device cuda`), or compiled by TensorRT
# (`--engine tensorrt`). Both need the NVIDIA container toolkit to run, and no GPU to build:
#
#   docker build -f docker/workstation.Dockerfile --build-arg GPU=onnxruntime -t tandem-workstation:gpu .
#   docker build -f docker/workstation.Dockerfile --build-arg GPU=tensorrt -t tandem-workstation:gpu .
#
# `--target gateway` makes that of the gateway, and `--target client` the `tandem` command, for a machine
# without Python 3.11.

# A tag may be moved to another image, a digest not: scripts/pin_images.sh tells today's, to be given as
# --build-arg BASE_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
# The base image's pip installs into it: what is copied from here on holds none.
RUN python -m venv --without-pip /opt/venv
WORKDIR /build
COPY requirements/services.txt requirements/runtime.txt requirements/gateway.txt ./
# What the services need. pip takes hashes of all packages or of none: for those that are added below,
# the lock is a list of releases.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --require-hashes --requirement services.txt \
 && grep -oE '^[^ ;]+==[^ ;]+' runtime.txt > releases.txt

# Empty: the CPU alone. `onnxruntime` needs a driver for CUDA 13 (580 or later), whose libraries are
# wheels; `tensorrt` one for CUDA 12. onnxruntime and onnxruntime-gpu are the same files: only one
# of them can be installed.
ARG GPU=
ARG ONNXRUNTIME_GPU=1.31.1
RUN --mount=type=cache,target=/root/.cache/pip \
    case "${GPU}" in \
      ""|tensorrt) set -- onnxruntime ;; \
      onnxruntime) set -- "onnxruntime-gpu[cuda,cudnn]==${ONNXRUNTIME_GPU}" "nvidia-ml-py>=12" ;; \
      *) echo "GPU is onnxruntime, tensorrt or empty, not '${GPU}'" >&2; exit 2 ;; \
    esac \
 && pip --python /opt/venv/bin/python install --constraint releases.txt "$@"

# TensorRT's libraries are wheels; pycuda is compiled against the driver API's headers, out of a
# wheel too, and against an empty libcuda, since the driver's own comes with the GPU at run time.
ARG TENSORRT=10.16.1.11
ARG PYCUDA=2026.1
ENV CUDA_ROOT=/build/cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ "${GPU}" = tensorrt ]; then \
      pip --python /opt/venv/bin/python install --constraint releases.txt \
        "tensorrt-cu12==${TENSORRT}" "nvidia-ml-py>=12" \
        nvidia-cuda-runtime-cu12 nvidia-cuda-profiler-api-cu12 ; \
    fi
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ "${GPU}" = tensorrt ]; then \
      apt-get update \
   && apt-get install -y --no-install-recommends g++ \
   && mkdir -p "${CUDA_ROOT}/lib" "${CUDA_ROOT}/include" \
   && cp -r /opt/venv/lib/python3*/site-packages/nvidia/cuda_*/include/. "${CUDA_ROOT}/include" \
   && echo 'int empty;' | gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -x c - -o "${CUDA_ROOT}/lib/libcuda.so" \
   && printf 'CUDA_ROOT = "%s"\nCUDA_ENABLE_CURAND = False\n' "${CUDA_ROOT}" > /etc/aksetup-defaults.py \
   && pip --python /opt/venv/bin/python install --constraint releases.txt --no-binary pycuda \
        "pycuda==${PYCUDA}" ; \
    fi

FROM dependencies AS client-dependencies
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --require-hashes --requirement runtime.txt

FROM dependencies AS gateway-dependencies
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --require-hashes --requirement gateway.txt

FROM ${BASE_IMAGE} AS base
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tandem" \
      org.opencontainers.image.description="DETR object detection across two devices" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Volumes that Compose mounts below /certificates belong to whom these folders belong.
RUN groupadd --gid 10001 tandem \
 && useradd --uid 10001 --gid tandem --home-dir /nonexistent --no-create-home \
      --shell /usr/sbin/nologin tandem \
 && install --directory --owner tandem --group tandem /cache \
 && install --directory --mode 700 --owner tandem --group tandem /certificates \
      /certificates/authority /certificates/edge /certificates/workstation \
      /certificates/client /certificates/operator /certificates/prometheus
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/opt/tandem PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/tandem
ENTRYPOINT ["python", "-m"]

FROM base AS client
COPY --from=client-dependencies /opt/venv /opt/venv
COPY protos protos
COPY common common
COPY services services
COPY tandem tandem
COPY models models
USER tandem
ENTRYPOINT ["python", "-m", "tandem"]
CMD ["--help"]

FROM base AS gateway
COPY --from=gateway-dependencies /opt/venv /opt/venv
COPY LICENSE NOTICE ./
COPY models/demo-clip models/demo-clip
COPY protos protos
COPY common common
COPY services services
COPY tandem tandem
USER tandem
# 50053 gRPC, 8080 HTTP, 9153 metrics.
EXPOSE 50053 8080 9153
STOPSIGNAL SIGTERM
CMD ["services.gateway", "--help"]

FROM base AS services
COPY --from=dependencies /opt/venv /opt/venv
COPY LICENSE NOTICE ./
COPY models/demo-r50 models/demo-r50
COPY protos protos
COPY common common
COPY services services
USER tandem
# 50050 orchestrator, 50051 backbone, 50052 transformer; 9150 to 9152 their metrics.
EXPOSE 50050 50051 50052 9150 9151 9152
STOPSIGNAL SIGTERM
CMD ["services.orchestrator", "--help"]
