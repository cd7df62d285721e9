#!/usr/bin/env bash
# Says whether the build in folder $1 has the CUDA backend. Fails where nvcc is installed and something else is missing: a
# continuous build would otherwise skip CUDA without a word. FROST_CUDA=OFF was somebody's choice.
set -euo pipefail
cache=$1/CMakeCache.txt
value() { sed -n "s/^$1:[A-Z]*=//p" "$cache"; }
found() { local v; v=$(value "$1"); [[ -n $v && $v != *-NOTFOUND ]]; }

if [[ $(value FROST_CUDA) == OFF ]]; then
  echo "CUDA backend: not built: FROST_CUDA=OFF"
elif ! found FROST_NVCC; then
  echo "CUDA backend: not built: there is no nvcc on this machine"
else
  missing=""
  found FROST_CUDNN_INCLUDE || missing+=" cudnn.h"
  found FROST_CUDNN_LIBRARY || missing+=" libcudnn"
  found FROST_CUBLASLT_LIBRARY || missing+=" libcublasLt"
  [[ -n $missing ]] || found FROST_CUDNN_FRONTEND_INCLUDE || missing=" cudnn_frontend.h"  # fetched where all else is there
  [[ -n $missing || -f $1/bin/libfrost_cuda.so ]] || missing=" bin/libfrost_cuda.so"
  if [[ -n $missing ]]; then
    echo "CUDA backend: NOT BUILT although $(value FROST_NVCC) is installed; missing:$missing" >&2
    exit 1
  fi
  echo "CUDA backend: built with $(value FROST_NVCC), cuDNN from $(value FROST_CUDNN_INCLUDE)"
fi
