#include <cstdio>
#include <filesystem>

#include "models/yolo/shapes_dataset.h"
#include "tools/main_guard.h"

int main(int argc, char** argv) {
  return frost::run_tool("make-shapes", argc, argv, [](CLI::App& app, int count, char** arguments) {
    std::filesystem::path out;
    frost::ShapesOptions options;
    int train = 160, val = 40;
    app.description("Draws a small detection data set: coloured shapes on textured grounds, with YOLO labels.");
    app.add_option("--out", out, "folder to write: images/, labels/, shapes.yaml")->required();
    app.add_option("--train", train, "training pictures")->capture_default_str()->check(CLI::Range(1, 9999));
    app.add_option("--val", val, "validation pictures")->capture_default_str()->check(CLI::Range(1, 9999));
    app.add_option("--imgsz", options.imgsz, "side in pixels")->capture_default_str()->check(CLI::Range(32, 8192));
    app.add_option("--classes", options.classes, "how many kinds of shapes")
        ->capture_default_str()
        ->check(CLI::Range(1, static_cast<int>(frost::shape_names().size())));
    app.add_option("--seed", options.seed, "another seed draws other pictures")->capture_default_str();
    app.parse(count, arguments);

    frost::write_shapes_dataset(out, options, train, val);
    std::printf("%s: %d training and %d validation pictures of %d x %d, %d classes\n", (out / "shapes.yaml").c_str(), train,
                val, options.imgsz, options.imgsz, options.classes);
    return 0;
  });
}
