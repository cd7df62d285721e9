// The one place where stb's code is compiled: PNG and BMP, read and written, nothing else.
#include "engine/image/stb.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb_image.h>
#include <stb_image_write.h>
#pragma GCC diagnostic pop

#include <climits>

#include "kernels/error.h"

namespace frost::stb {

bool decode_rgb(std::span<const std::uint8_t> bytes, int& width, int& height, std::vector<std::uint8_t>& rgb,
                std::string& cause) {
  int channels = 0;
  if (bytes.size() > INT_MAX) {
    cause = "larger than 2 GiB";
    return false;
  }
  stbi_uc* pixels = stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, 3);
  if (!pixels) {
    cause = stbi_failure_reason() ? stbi_failure_reason() : "unknown cause";
    return false;
  }
  rgb.assign(pixels, pixels + static_cast<std::size_t>(width) * height * 3);
  stbi_image_free(pixels);
  return true;
}

namespace {
void append(void* context, void* data, int size) {
  auto& out = *static_cast<std::vector<std::uint8_t>*>(context);
  const auto* first = static_cast<const std::uint8_t*>(data);
  out.insert(out.end(), first, first + size);
}
}  // namespace

std::vector<std::uint8_t> encode_png(const std::uint8_t* rgb, int width, int height) {
  std::vector<std::uint8_t> out;
  if (!stbi_write_png_to_func(append, &out, width, height, 3, rgb, width * 3)) out.clear();
  return out;
}

std::vector<std::uint8_t> encode_bmp(const std::uint8_t* rgb, int width, int height) {
  std::vector<std::uint8_t> out;
  if (!stbi_write_bmp_to_func(append, &out, width, height, 3, rgb)) out.clear();
  return out;
}

}  // namespace frost::stb
