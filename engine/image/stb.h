#pragma once
#include <cstdint>
#include <vector>

/// Separates stb_image_write from the rest, so that its macros and code stay in stb.cpp.
namespace frost::stb {

/// Packed RGB as a file; empty on failure.
std::vector<std::uint8_t> encode_png(const std::uint8_t* rgb, int width, int height);
std::vector<std::uint8_t> encode_bmp(const std::uint8_t* rgb, int width, int height);

}  // namespace frost::stb
