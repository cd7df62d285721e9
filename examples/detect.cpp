// Finds objects on pictures, and draws them.
//   detect WEIGHTS IMAGE...
#include <frost/frost.h>

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc < 3) return std::puts("usage: detect WEIGHTS IMAGE..."), 2;
  frost::Device device("auto");
  const auto model = frost::load_model(device, argv[1]);
  frost::Predictor predict(*model, {.imgsz = 640, .conf_thres = 0.25f});  // for one image: model->predict(image)
  for (int i = 2; i < argc; ++i) {
    frost::Image image = frost::read_image(argv[i]);
    for (const frost::Detection& d : predict(image)) {
      std::printf("%s: %s %.2f at (%.0f, %.0f) to (%.0f, %.0f)\n", argv[i], model->names[d.label].c_str(), d.confidence,
                  d.x1, d.y1, d.x2, d.y2);
      frost::draw_box(image, static_cast<int>(d.x1), static_cast<int>(d.y1), static_cast<int>(d.x2), static_cast<int>(d.y2),
                      {255, 0, 0}, 2);
    }
    frost::write_image("detected_" + std::to_string(i - 1) + ".jpg", image);
  }
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
