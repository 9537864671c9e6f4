#!/bin/sh
# Puts TensorRT's Python bindings into a virtual environment; used by edge.Dockerfile.
#
#   build_tensorrt_bindings.sh oss|wheel|system VENV
#
# Reads CUDA_ROOT, TRT_TAG, TRT_VERSION, TRT_WHEEL, TRT_WHEEL_SHA256.
set -eu
choice=$1
venv=$2
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
machine=$(uname -m)

# NVIDIA's own build script wants cmake, downloads and twelve processes; plain g++ is enough.
from_source() {
  curl --fail --silent --show-error --location --output source.tar.gz \
    "https://github.com/NVIDIA/TensorRT/archive/refs/tags/$TRT_TAG.tar.gz"
  mkdir -p source objects include/onnx
  tar --extract --gzip --file source.tar.gz --directory source --strip-components 1
  # The sources include it from a folder that only the parser's own repository has.
  cp "/usr/include/$machine-linux-gnu/NvOnnxParser.h" include/onnx/
  # Later releases of pybind11 do not compile these sources (TensorRT#2288).
  "$venv/bin/pip" install --target pybind11 pybind11==2.9.2
  headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
  for file in source/python/src/*.cpp source/python/src/*/*.cpp; do
    echo "$file"
  done | xargs -P "$(nproc)" -I FILE sh -c 'g++ -c -O2 -fPIC -std=c++11 -fvisibility=hidden \
    -Wno-deprecated-declarations "$@" FILE -o "objects/$(basename FILE .cpp).o"' compile \
    -Isource/include -Isource/python/include -Isource/python/docstrings -Iinclude \
    -Ipybind11/pybind11/include "-I$headers" \
    "-I$CUDA_ROOT/include" "-I$CUDA_ROOT/targets/$machine-linux/include"
  mkdir -p "$packages/tensorrt"
  sed "s/##TENSORRT_VERSION##/$TRT_VERSION/" source/python/packaging/tensorrt/__init__.py \
    >"$packages/tensorrt/__init__.py"
  cp source/LICENSE "$packages/tensorrt/"
  g++ -shared -o "$packages/tensorrt/tensorrt.so" objects/*.o \
    -lnvinfer -lnvonnxparser -lnvparsers -lnvinfer_plugin
  strip "$packages/tensorrt/tensorrt.so"
}

from_wheel() {
  wheel=$(basename "$TRT_WHEEL")
  curl --fail --silent --show-error --location --output "$wheel" "$TRT_WHEEL"
  echo "$TRT_WHEEL_SHA256  $wheel" | sha256sum --check
  "$venv/bin/pip" install --no-deps "$wheel"
}

from_system() {
  version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  for folder in /usr/lib/python3/dist-packages "/usr/lib/python$version/dist-packages" \
    "/usr/local/lib/python$version/dist-packages"; do
    if [ -d "$folder/tensorrt" ]; then
      cp -r "$folder"/tensorrt* "$packages/"
      return
    fi
  done
  echo "the base image has no TensorRT bindings for Python $version" >&2
  exit 1
}

case $choice in
  oss) from_source ;;
  wheel) from_wheel ;;
  system) from_system ;;
  *)
    echo "TRT_BINDINGS is oss, wheel or system, not '$choice'" >&2
    exit 2
    ;;
esac
# Their libraries come with the GPU: importing them is the first run's test.
ls "$packages/tensorrt"
