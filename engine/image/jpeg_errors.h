#pragma once
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE

#include <jpeglib.h>  // after <cstdio>

namespace frost::image {

/// libjpeg reports errors by a callback that must not return: it jumps back into the function that called libjpeg. Those
/// functions own nothing that needs a destructor.
struct JpegErrors : jpeg_error_mgr {
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX] = {};  // of the error, or of the first warning
};

inline void install(JpegErrors& errors) {
  jpeg_std_error(&errors);
  errors.error_exit = [](j_common_ptr codec) {
    auto* own = static_cast<JpegErrors*>(codec->err);
    own->format_message(codec, own->text);
    std::longjmp(own->jump, 1);
  };
  errors.emit_message = [](j_common_ptr codec, int level) {
    auto* own = static_cast<JpegErrors*>(codec->err);
    if (level < 0 && own->num_warnings++ == 0) own->format_message(codec, own->text);
  };
}

}  // namespace frost::image
