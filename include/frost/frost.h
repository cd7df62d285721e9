#pragma once

/// The public face of frost: what a program needs that links frost::frost. docs/library.md shows how.
///
/// Threads: a Device, and all that lives on it, belongs to one thread at a time. Several devices, each with its own thread, do
///   not disturb each other.
/// Ownership: a Device outlives its tensors and models. Copies of a Tensor share memory.
/// Errors: frost::Error (a std::runtime_error) with one line that says what was seen and what was expected. Nothing here
///   ends the program.
/// Units: pixels, counted from the upper left corner. Images are 8 bit, rows of B G R; tensors are (n, height, width,
///   channels).
#include "engine/autograd/ops.h"       // Context, Tape, Var; operators
#include "engine/image/codec.h"        // Image; decode_image, write_image
#include "engine/nn/layers.h"          // Module and its layers
#include "engine/optim/optimizer.h"    // ParameterArena, Optimizer
#include "engine/tensor/run_device.h"  // Device, RunDevice, Ledger
