#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "tests/source_dir.h"

std::filesystem::path frost::testing::source_dir() { return FROST_SOURCE_DIR; }
