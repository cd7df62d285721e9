#include <cstdio>
#include <filesystem>

#include "models/yolo/shapes_dataset.h"
#include "tools/main_guard.h"

int main(int argc, char** argv) {
  return frost::run_tool("make-shapes", argc, argv, [](CLI::App& app, int argument_count, char** arguments) {
    std::filesystem::path out;
    frost::ShapesOptions options;
    int train = 160, val = 40, classes = 4;
    std::vector<std::string> shapes;
    app.description("Draws a small detection data set: coloured shapes on textured grounds, with YOLO labels.");
    app.add_option("--out", out, "folder to write: images/, labels/, shapes.yaml")->required();
    app.add_option("--train", train, "training pictures")->capture_default_str()->transform(frost::whole_number(1, 9999));
    app.add_option("--val", val, "validation pictures")->capture_default_str()->transform(frost::whole_number(1, 9999));
    app.add_option("--imgsz", options.imgsz, "side in pixels")
        ->capture_default_str()
        ->transform(frost::whole_number(32, 8192));
    auto* count = app.add_option("--classes", classes, "how many kinds of shapes: the first ones of circle, square, ...")
                      ->capture_default_str()
                      ->transform(frost::whole_number(1, static_cast<std::int64_t>(frost::shape_names().size())));
    app.add_option("--shapes", shapes, "these kinds: circle, square, triangle, star, ring, cross")->excludes(count);
    app.add_option("--seed", options.seed, "another seed draws other pictures")->capture_default_str();
    frost::parse_arguments(app, argument_count, arguments);
    options.shapes = shapes.empty() ? frost::first_shapes(classes) : frost::named_shapes(shapes);

    frost::write_shapes_dataset(out, options, train, val);
    std::printf("%s: %d training and %d validation pictures of %d x %d, %d classes\n", (out / "shapes.yaml").c_str(), train,
                val, options.imgsz, options.imgsz, static_cast<int>(options.shapes.size()));
    return 0;
  });
}
