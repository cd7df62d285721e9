#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// A thin wall around stb_image, so that its macros and code stay in stb.cpp.
namespace frost::stb {

/// PNG or BMP to packed RGB. False with the cause where stb refuses.
bool decode_rgb(std::span<const std::uint8_t> bytes, int& width, int& height, std::vector<std::uint8_t>& rgb,
                std::string& cause);

/// Empty on failure.
std::vector<std::uint8_t> encode_png(const std::uint8_t* rgb, int width, int height);
std::vector<std::uint8_t> encode_bmp(const std::uint8_t* rgb, int width, int height);

}  // namespace frost::stb
