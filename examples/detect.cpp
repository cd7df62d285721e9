// Finds objects on pictures, and draws them. Fails where there are none on any picture.
//   detect WEIGHTS CONFIDENCE IMAGE...        CONFIDENCE: of the weakest detection that counts, such as 0.25
#include <frost/frost.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) try {
  if (argc < 4) return std::puts("usage: detect WEIGHTS CONFIDENCE IMAGE..."), 2;
  frost::Device device("auto");
  const auto model = frost::load_model(device, argv[1]);
  frost::Predictor predict(*model, {.conf_thres = std::strtof(argv[2], nullptr)});  // for one image: model->predict(image)
  std::size_t count = 0;
  for (int i = 3; i < argc; ++i) {
    frost::Image image = frost::read_image(argv[i]);
    for (const frost::Detection& d : predict(image)) {
      ++count;
      std::printf("%s: %s %.2f at (%.0f, %.0f) to (%.0f, %.0f)\n", argv[i], model->names[d.label].c_str(), d.confidence,
                  d.x1, d.y1, d.x2, d.y2);
      frost::draw_box(image, static_cast<int>(d.x1), static_cast<int>(d.y1), static_cast<int>(d.x2), static_cast<int>(d.y2),
                      {255, 0, 0}, 2);
    }
    frost::write_image("detected_" + std::to_string(i - 2) + ".jpg", image);
  }
  return count > 0 ? 0 : 1;
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
