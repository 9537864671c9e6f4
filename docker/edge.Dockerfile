# The stages and the orchestrator on a Jetson. By default a TX2 with JetPack 4.6 (L4T R32.7):
# Python 3.8, CUDA 10.2, TensorRT 8.2.1. Build it on the Jetson, or on a PC with QEMU for arm64:
#
#   docker build -f docker/edge.Dockerfile -t tandem-edge .
#
# Later JetPacks (Orin, Thor): docker/jetpack.Dockerfile.

# A tag may be moved to another image, a digest not: scripts/pin_images.sh tells today's, to be given as
# --build-arg BASE_IMAGE=nvcr.io/nvidia/l4t-cuda:10.2.460-runtime@sha256:...
ARG BASE_IMAGE=nvcr.io/nvidia/l4t-cuda:10.2.460-runtime
# The part of NVIDIA's apt repository that has CUDA and TensorRT without the board's own packages;
# empty where the base image has both.
ARG NVIDIA_APT="https://repo.download.nvidia.com/jetson/common r32.7 main"

FROM ${BASE_IMAGE} AS base
ARG NVIDIA_APT
ARG PYTHON=3.8
ENV DEBIAN_FRONTEND=noninteractive
ADD https://repo.download.nvidia.com/jetson/jetson-ota-public.asc /etc/apt/trusted.gpg.d/jetson-ota.asc
# cuda.list of NVIDIA's images names a repository on the machine that made them. Ubuntu 18.04
# comes without the certificates that apt needs for https, but they can be fetched by http.
RUN chmod 644 /etc/apt/trusted.gpg.d/jetson-ota.asc \
 && rm -f /etc/apt/sources.list.d/cuda.list \
 && apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && if [ -n "${NVIDIA_APT}" ]; then \
      echo "deb ${NVIDIA_APT}" > /etc/apt/sources.list.d/nvidia-l4t.list ; \
    fi \
 && apt-get update \
 && apt-get install -y --no-install-recommends "python${PYTHON}" \
 && rm -rf /var/lib/apt/lists/*

# ---------------------------------------------------------------------------- what is compiled
FROM base AS builder
ARG BUILD_PACKAGES="cuda-cudart-dev-10-2 cuda-driver-dev-10-2 cuda-misc-headers-10-2 libnvinfer-dev libnvinfer-plugin-dev libnvonnxparsers-dev libnvparsers-dev"
ARG PYTHON
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ curl python3-distutils \
      "python${PYTHON}-dev" "python${PYTHON}-venv" ${BUILD_PACKAGES} \
 && rm -rf /var/lib/apt/lists/*
# Ubuntu 18.04's own pip is too old to know the wheels.
ADD https://bootstrap.pypa.io/pip/3.8/get-pip.py /build/get-pip.py
WORKDIR /build
COPY requirements/edge.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    "python${PYTHON}" -m venv --without-pip /opt/venv \
 && /opt/venv/bin/python get-pip.py "pip==24.3.1" "setuptools==75.3.2" "wheel==0.45.1" \
 && /opt/venv/bin/pip install --only-binary :all: --require-hashes --requirement edge.txt \
 && grep -oE '^[^ ;]+==[^ ;]+' edge.txt > releases.txt

# libcuda comes with the GPU's driver at run time; here its stub is linked against.
ARG CUDA_ROOT=/usr/local/cuda-10.2
ARG PYCUDA=2022.1
RUN --mount=type=cache,target=/root/.cache/pip \
    printf 'CUDA_ROOT = "%s"\nCUDA_ENABLE_CURAND = False\n' "${CUDA_ROOT}" > /etc/aksetup-defaults.py \
 && export LIBRARY_PATH="${CUDA_ROOT}/lib64/stubs:${CUDA_ROOT}/targets/aarch64-linux/lib/stubs" \
 && export CPATH="${CUDA_ROOT}/include:${CUDA_ROOT}/targets/aarch64-linux/include" \
 && /opt/venv/bin/pip install --no-build-isolation --no-binary pycuda --constraint releases.txt \
      "pycuda==${PYCUDA}"

# oss:    compiled from NVIDIA's source of exactly the version that apt has
# wheel:  compiled by somebody else, of a slightly older version; in use in the field
# system: those that the base image's Python has
ARG TRT_BINDINGS=oss
ARG TRT_TAG=8.2.1
ARG TRT_VERSION=8.2.1.8
ARG TRT_WHEEL=https://github.com/ultralytics/assets/releases/download/v0.0.0/tensorrt-8.2.0.6-cp38-none-linux_aarch64.whl
ARG TRT_WHEEL_SHA256=78833cfaf54789f5ef70dcb6cee5c5a125913454ad32ea500296bbfac417dca5
COPY docker/build_tensorrt_bindings.sh ./
RUN CUDA_ROOT="${CUDA_ROOT}" TRT_TAG="${TRT_TAG}" TRT_VERSION="${TRT_VERSION}" \
    TRT_WHEEL="${TRT_WHEEL}" TRT_WHEEL_SHA256="${TRT_WHEEL_SHA256}" \
    sh build_tensorrt_bindings.sh "${TRT_BINDINGS}" /opt/venv \
 && /opt/venv/bin/pip uninstall --yes pip setuptools wheel

# ---------------------------------------------------------------------------- what runs
FROM base
# Empty where the NVIDIA runtime mounts the host's own (libnvidia-container before 0.11 on
# JetPack 4): a library that is in the image too can keep a container from starting, 'file exists'.
ARG LIBRARIES="libnvinfer8 libnvinfer-plugin8 libnvonnxparsers8 libnvparsers8"
RUN if [ -n "${LIBRARIES}" ]; then \
      apt-get update \
   && apt-get install -y --no-install-recommends ${LIBRARIES} \
   && rm -rf /var/lib/apt/lists/* ; \
    fi \
 && mkdir -p /cache /certificates \
 && groupadd --gid 10001 tandem \
 && useradd --uid 10001 --gid tandem --groups video --home-dir /nonexistent --no-create-home \
      --shell /usr/sbin/nologin tandem \
 && chown tandem:tandem /cache /certificates
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tandem, edge" \
      org.opencontainers.image.description="DETR object detection across two devices" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# numpy's OpenBLAS does not know the TX2's Denver cores (numpy#18131).
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/opt/tandem PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 OPENBLAS_CORETYPE=ARMV8 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
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
