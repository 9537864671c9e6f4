# The stages and the orchestrator on a Jetson whose JetPack has TensorRT 10: Orin, Thor. (A TX2
# stays on JetPack 4.6: docker/edge.Dockerfile.) The system's own Python and TensorRT bindings are
# used; only pycuda is compiled. By default JetPack 6.2 (L4T R36.4: Python 3.10, CUDA 12.6,
# TensorRT 10.3):
#
#   docker build -f docker/jetpack.Dockerfile -t tandem-edge .
#
# JetPack 7.2 (L4T R39.2: Ubuntu 24.04, Python 3.12, CUDA 13.2):
#
#   docker build -f docker/jetpack.Dockerfile -t tandem-edge \
#     --build-arg BASE_IMAGE=ubuntu:24.04 --build-arg PYTHON=3.12 --build-arg CUDA=13-2 \
#     --build-arg NVIDIA_APT="https://repo.download.nvidia.com/jetson/common r39.2 main" .
#
# Images for R36 before .4 and from .4 on cannot be exchanged. Without `--runtime nvidia` a
# container sees no GPU, and nothing says so before the engine is loaded.

# A tag may be moved to another image, a digest not: scripts/pin_images.sh tells today's, to be given as
# --build-arg BASE_IMAGE=nvcr.io/nvidia/l4t-cuda:12.6.11-runtime@sha256:...
ARG BASE_IMAGE=nvcr.io/nvidia/l4t-cuda:12.6.11-runtime
FROM ${BASE_IMAGE} AS base
# The part of NVIDIA's apt repository that has CUDA and TensorRT without the board's own packages.
ARG NVIDIA_APT="https://repo.download.nvidia.com/jetson/common r36.4 main"
ARG PYTHON=3.10
ARG CUDA=12-6
ENV DEBIAN_FRONTEND=noninteractive
ADD https://repo.download.nvidia.com/jetson/jetson-ota-public.asc /etc/apt/trusted.gpg.d/jetson-ota.asc
RUN chmod 644 /etc/apt/trusted.gpg.d/jetson-ota.asc \
 && apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && echo "deb ${NVIDIA_APT}" > /etc/apt/sources.list.d/nvidia-l4t.list \
 && apt-get update \
 && apt-get install -y --no-install-recommends \
      "python${PYTHON}" "cuda-cudart-${CUDA}" python3-libnvinfer libnvonnxparsers10 \
 && rm -rf /var/lib/apt/lists/*

# ---------------------------------------------------------------------------- what is compiled
FROM base AS builder
ARG PYTHON
ARG CUDA
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
      "python${PYTHON}-dev" "python${PYTHON}-venv" \
      "cuda-cudart-dev-${CUDA}" "cuda-driver-dev-${CUDA}" "cuda-profiler-api-${CUDA}" \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/jetpack.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    "python${PYTHON}" -m venv /opt/venv \
 && /opt/venv/bin/pip install --only-binary :all: --require-hashes --requirement jetpack.txt \
 && grep -oE '^[^ ;]+==[^ ;]+' jetpack.txt > releases.txt

# libcuda comes with the GPU's driver at run time; here its stub is linked against.
ARG PYCUDA=2026.1
RUN --mount=type=cache,target=/root/.cache/pip \
    printf 'CUDA_ROOT = "/usr/local/cuda"\nCUDA_ENABLE_CURAND = False\n' > /etc/aksetup-defaults.py \
 && export LIBRARY_PATH=/usr/local/cuda/lib64/stubs CPATH=/usr/local/cuda/include \
 && /opt/venv/bin/pip install --no-binary pycuda --constraint releases.txt "pycuda==${PYCUDA}"
# jtop's power, load and temperatures, where the host's /run/jtop.sock is mounted; has to be the
# version of jetson-stats that the host runs (`jtop --version`). Left out by default: the kernel's
# own files tell the same of power.
ARG JETSON_STATS=
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "${JETSON_STATS}" ]; then \
      /opt/venv/bin/pip install --constraint releases.txt "jetson-stats==${JETSON_STATS}" ; \
    fi
COPY docker/build_tensorrt_bindings.sh ./
RUN sh build_tensorrt_bindings.sh system /opt/venv && /opt/venv/bin/pip uninstall --yes pip

# ---------------------------------------------------------------------------- what runs
FROM base
RUN mkdir -p /cache /certificates \
 && groupadd --gid 10001 tandem \
 && useradd --uid 10001 --gid tandem --groups video --home-dir /nonexistent --no-create-home \
      --shell /usr/sbin/nologin tandem \
 && chown tandem:tandem /cache /certificates
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tandem, edge, JetPack 6 and later" \
      org.opencontainers.image.description="DETR object detection across two devices" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/opt/tandem PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
WORKDIR /opt/tandem
COPY --from=builder /opt/venv /opt/venv
COPY LICENSE NOTICE ./
COPY models/demo-r50 models/demo-r50
COPY protos protos
COPY common common
COPY services services
USER tandem
VOLUME /cache
# 50050 orchestrator, 50051 backbone, 50052 transformer; 9150 to 9152 their metrics.
EXPOSE 50050 50051 50052 9150 9151 9152
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m"]
CMD ["services.orchestrator", "--help"]
