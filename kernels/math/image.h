#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// A pixel's byte as the network sees it: 0..1.
FROST_HD float image_value(float byte) { return byte / 255.0f; }

}  // namespace frost::math
