#!/usr/bin/env bash
# Type-checks the TensorRT engine against stubs made from the real bindings of TensorRT 10.16, on a
# machine without a GPU: shared libraries that hold nothing stand in for TensorRT itself. Nothing
# of it is kept. Needs a C compiler, Python 3.11 and the package index.
set -euo pipefail
cd "$(dirname "$0")/.."
RELEASE=10.16.1.11
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybind11-stubgen numpy
"$folder/venv/bin/pip" install --quiet --no-deps "tensorrt-cu12-bindings==$RELEASE"

for name in createInferBuilder_INTERNAL createInferRuntime_INTERNAL createInferRefitter_INTERNAL \
  createNvOnnxParser_INTERNAL createNvOnnxParserRefitter_INTERNAL getNvOnnxParserVersion \
  getBuilderPluginRegistry getPluginRegistry initLibNvInferPlugins getInferLibVersion getLogger; do
  echo "void *$name(void) { return 0; }"
done > "$folder/nothing.c"
mkdir "$folder/lib"
for library in libnvinfer.so.10 libnvinfer_plugin.so.10 libnvonnxparser.so.10; do
  cc -shared -fPIC "-Wl,-soname,$library" -o "$folder/lib/$library" "$folder/nothing.c"
done

LD_LIBRARY_PATH="$folder/lib" "$folder/venv/bin/pybind11-stubgen" \
  tensorrt_bindings.tensorrt --output-dir "$folder/made" > "$folder/stubgen.log" 2>&1
mkdir -p "$folder/stubs/tensorrt" "$folder/stubs/pycuda"
# The bindings have arguments named by a keyword, and one without a default after some with one.
# What Python's side adds is appended.
sed -E 's/\bin: collections/in_: collections/
  s/(power: Weights = None, channel_axis: typing.SupportsInt)\)/\1 = ...)/' \
  "$folder/made/tensorrt_bindings/tensorrt.pyi" > "$folder/stubs/tensorrt/__init__.pyi"
echo '__version__: str' >> "$folder/stubs/tensorrt/__init__.pyi"
touch "$folder/stubs/pycuda/__init__.pyi"
printf 'from typing import Any\ndef __getattr__(name: str) -> Any: ...\n' \
  > "$folder/stubs/pycuda/driver.pyi"

MYPYPATH="$folder/stubs" .venv/bin/mypy --cache-dir "$folder/mypy" --no-error-summary \
  -p common.engines.tensorrt > "$folder/errors" || true
# Not errors: what only 8.2 has (its adapter, its workspace, its flag); and what pybind11 converts
# by itself but stubs do not say: tuples to Dims, Dims to tuples, and the buffer of IHostMemory.
known='"(get_binding_name|num_bindings|binding_is_input|get_binding_dtype)"'
known="$known|\"(set_binding_shape|get_binding_shape|execute_async_v2|max_workspace_size)\""
known="$known|\"STRICT_TYPES\"|to \"set_shape\" of \"IOptimizationProfile\"|type \"Dims\"; expected"
known="$known|\"bytes\" matches argument type \"IHostMemory\"|note:"
if grep '^common/engines/tensorrt' "$folder/errors" | grep -vE "$known"; then
  echo "the engine does not fit TensorRT $RELEASE" >&2
  exit 1
fi
# Without this line a broken stub, which keeps mypy from checking, would look like success.
grep -q '"ICudaEngine" has no attribute "num_bindings"' "$folder/errors"
lines=$(wc -l < "$folder/stubs/tensorrt/__init__.pyi")
echo "the engine fits TensorRT $RELEASE (stubs of $lines lines)"
