#!/usr/bin/env bash
# cuda_built.sh ($1) on caches as CMake leaves them: what it says, and when it fails.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin"

expect() {  # status, words, cache lines...
  local status=$1 words=$2 said code=0
  shift 2
  printf '%s\n' "$@" >"$folder/CMakeCache.txt"
  said=$(bash "$script" "$folder" 2>&1) || code=$?
  if [[ $code != "$status" || $said != *"$words"* ]]; then
    echo "expected status $status and '$words', got $code and '$said'"
    exit 1
  fi
}
script=$1
nvcc=FROST_NVCC:FILEPATH=/opt/cuda/bin/nvcc
header=FROST_CUDNN_INCLUDE:PATH=/opt/cuda/include
library=FROST_CUDNN_LIBRARY:FILEPATH=/opt/cuda/lib/libcudnn.so
blas=FROST_CUBLASLT_LIBRARY:FILEPATH=/opt/cuda/lib/libcublasLt.so
frontend=FROST_CUDNN_FRONTEND_INCLUDE:PATH=/opt/cuda/include
auto=FROST_CUDA:STRING=AUTO

expect 0 "not built: there is no nvcc" $auto FROST_NVCC:FILEPATH=FROST_NVCC-NOTFOUND
expect 0 "not built: FROST_CUDA=OFF" FROST_CUDA:STRING=OFF
expect 1 "/opt/cuda/bin/nvcc is installed; missing: cudnn.h libcudnn" $auto $nvcc $blas \
  FROST_CUDNN_INCLUDE:PATH=FROST_CUDNN_INCLUDE-NOTFOUND FROST_CUDNN_LIBRARY:FILEPATH=FROST_CUDNN_LIBRARY-NOTFOUND
expect 1 "missing: libcublasLt" $auto $nvcc $header $library
expect 1 "missing: cudnn_frontend.h" $auto $nvcc $header $library $blas
expect 1 "missing: bin/libfrost_cuda.so" $auto $nvcc $header $library $blas $frontend
touch "$folder/bin/libfrost_cuda.so"
expect 0 "built with /opt/cuda/bin/nvcc, cuDNN from /opt/cuda/include" $auto $nvcc $header $library $blas $frontend
echo "all as expected"
