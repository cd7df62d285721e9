#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace frost {

/// The words of a command line (without the program's name) with each long flag expanded to `app`'s full name by argparse's
/// rules, since YOLOv5's commands rely on them: an exact name first, then the one flag that a prefix can mean (--conf,
/// --iou; also --flag=value), flags that YOLOv5 has too before others. Words that no flag takes come first. Underscores
/// count as dashes (--batch_size). Throws CLI::ParseError with one line that names every flag that is unknown, in the order
/// typed, each with the flag that may have been meant; ambiguous; or YOLOv5's alone. A flag that is given again replaces
/// the earlier one with its values.
std::vector<std::string> resolve_arguments(const CLI::App& app, const std::vector<std::string>& words);

/// Instead of app.parse(): resolves the words, parses them, and throws for words that belong to no flag.
void parse_arguments(CLI::App& app, int argc, char** argv);

/// Checks of a flag's value. A message says the range and the value, and never a number that nobody typed. `note` is added
/// to the message for a value out of range. whole_number() is for transform(), since it writes 010 as 10 for CLI11.
CLI::Validator whole_number(std::int64_t least, std::int64_t most = std::numeric_limits<int>::max(),
                            const std::string& note = "");
CLI::Validator number(double least, double most = std::numeric_limits<double>::infinity());

}  // namespace frost
