// The one place where stb's code is compiled: PNG and BMP are written with it.
#include "engine/image/stb.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace frost::stb {

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
