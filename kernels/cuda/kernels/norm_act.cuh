#pragma once
/// Batch norm and activation: the primitives of kernels/norm_act.h.
#include "kernels/cuda/kernels/norm_act_backward.cuh"
#include "kernels/cuda/kernels/norm_act_forward.cuh"
#include "kernels/cuda/kernels/norm_statistics.cuh"
