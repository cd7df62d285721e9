#pragma once
#include <filesystem>

namespace frost::testing {

/// The project's checkout. main.cpp alone is compiled with its path, so that the compiler's cache serves every other test in
/// any folder.
std::filesystem::path source_dir();

}  // namespace frost::testing
