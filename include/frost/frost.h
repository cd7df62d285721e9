#pragma once

/// The public header of frost, for programs that link frost::frost. docs/library.md shows how to use it.
///
/// Threads: a Device, with its tensors and models, belongs to one thread at a time. Several devices, each used by its own
/// thread, do not disturb each other. Ownership: a Device outlives its tensors and models. Copies of a Tensor share memory.
/// Errors: frost::Error (a std::runtime_error) with one line that says what was found and what was expected. Nothing here
/// ends the program. Signals: while train() works, Ctrl-C and SIGTERM end it with an Error, unless the program handles
/// these signals itself. Units: pixels, counted from the upper left corner. Images are 8 bit, rows of B G R; tensors are
/// (n, height, width,
///   channels). Confidences and probabilities are 0 to 1.
#include "engine/autograd/ops.h"         // Context, Tape, Var; operators
#include "engine/image/codec.h"          // Image; decode_image, write_image
#include "engine/image/draw.h"           // draw_box, draw_text
#include "engine/nn/layers.h"            // Module and its layers
#include "engine/optim/optimizer.h"      // ParameterArena, Optimizer
#include "engine/tensor/run_device.h"    // Device, Ledger
#include "models/families/load_model.h"  // Model, load_model, make_model
#include "models/families/predict.h"     // Detection, PredictOptions, Predictor
#include "models/families/train.h"       // train, DetectionData, ClassificationData

namespace frost {

/// The pixels of a JPEG, PNG, BMP, WebP or TIFF file, upright as its orientation says.
inline Image read_image(const std::filesystem::path& file) { return decode_image(file); }

}  // namespace frost
