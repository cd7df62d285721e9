#pragma once
/// Batch norm and activation: the primitives of kernels/norm_act.h.
#include "kernels/cuda/norm_act_backward.h"
#include "kernels/cuda/norm_act_forward.h"
#include "kernels/cuda/norm_statistics.h"
