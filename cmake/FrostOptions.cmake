# Compiler settings of our own code; dependencies are not touched by them.
find_program(FROST_CCACHE ccache)
if(FROST_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FROST_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${FROST_CCACHE})
endif()

add_library(frost_options INTERFACE)
target_include_directories(frost_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(frost_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror>)

option(FROST_SANITIZE "Build with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
# Release keeps assert: an engine that trains for hours should notice its own bugs.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
if(FROST_SANITIZE)
  # -g1 (lines, no variables) and frames: reports are readable, the build stays light.
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -g1 -fno-omit-frame-pointer")
  # UBSan's checks of pointers take half of a file's compile time, and ASan finds most of what they find. What is left is
  # alignment, as values are moved by the vector.
  target_compile_options(frost_options INTERFACE
    -fsanitize=address,undefined -fno-sanitize=null,object-size,vptr -fno-sanitize-recover=all)
  target_link_options(frost_options INTERFACE -fsanitize=address,undefined)
endif()

# Of what is compiled often and runs briefly: tests, and tools around the engine. Linked last, so that it has the last word.
add_library(frost_cold_options INTERFACE)
target_compile_options(frost_cold_options INTERFACE
  $<IF:$<BOOL:${FROST_SANITIZE}>,-O0;-fno-sanitize=alignment,-O1>)

# What most files of the engine and the models begin with, parsed once: a clean build of them takes a third less time. Off by
# default, since a compiler cache cannot keep what is made with it.
option(FROST_PCH "Precompiled headers for the engine and the models" OFF)
function(frost_precompile target)
  if(FROST_PCH)
    target_compile_options(${target} PRIVATE -w)  # of inlined system code, which counts as ours then
    target_precompile_headers(${target} PRIVATE <fmt/format.h> <algorithm> <filesystem> <fstream> <functional> <map> <memory>
      <optional> <span> <string> <vector> ${ARGN})
  endif()
endfunction()
