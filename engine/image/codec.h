#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "engine/image/image.h"

namespace frost {

/// Reads the header and finds the errors that decode_image would find. Of a JPEG only the headers up to the first scan are
/// checked. For formats that cannot be decoded width and height stay 0. Throws Error naming the file and the cause.
///
/// A JPEG that does not end as it should is kept (docs/spec/data.md section 4, step 5), and so is a TIFF of which a codec
/// only warns; `*warning` (if given) then says so in one line naming the file, and is empty otherwise.
ImageInfo probe_image(const std::filesystem::path& path, std::string* warning = nullptr);

/// Decodes JPEG, PNG, BMP, WebP or TIFF (its first page), recognised by content. Grey is replicated, alpha dropped, 16 bits
/// become the upper 8, 5 or 6 (BMP) the upper bits of a byte, the orientation (EXIF in JPEG, PNG and WebP, TIFF's own tag)
/// is applied: the pixels that OpenCV's imread gives (docs/spec/data.md section 6), which leaves a WebP's orientation out,
/// and multiplies the colours of an 8-bit TIFF by its alpha.
///
/// Memory is in proportion to the file: see check_size in codec.cpp.
///
/// A corrupt JPEG, or such data in a TIFF, of which the header and some data are sound is kept, with grey or repeated pixels
/// where data is missing, as YOLOv5 keeps it; `*warning` (if given) then says what was wrong, in one line naming the file,
/// and is empty otherwise. Everything else that is wrong is an Error naming the file and the cause.
Image decode_image(const std::filesystem::path& path, std::string* warning = nullptr);

/// The same from memory; messages use `name` as the file's name.
Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name, std::string* warning = nullptr);

/// JPEG bytes of an image. quality 1..100; chroma is halved in both directions unless full_chroma.
std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality = 95, bool full_chroma = false);

/// Written completely or not at all, missing folders are made; Error if it cannot be written or the disk is full
/// (engine/base/atomic_file.h).
void write_jpeg(const std::filesystem::path& path, const Image& image, int quality = 95, bool full_chroma = false);
void write_png(const std::filesystem::path& path, const Image& image);
/// In the format of the name's ending, in any case: .png, .bmp, .webp, .tif, .tiff; everything else is a JPEG.
void write_image(const std::filesystem::path& path, const Image& image);

}  // namespace frost
