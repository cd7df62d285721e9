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
  target_compile_options(frost_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(frost_options INTERFACE -fsanitize=address,undefined)
endif()

# Of what is compiled often and runs briefly: tests, and tools around the engine. Linked last, so that it has the last word.
add_library(frost_cold_options INTERFACE)
if(FROST_SANITIZE)  # UBSan's checks of pointers take half of a file's compile time; here ASan's must do
  target_compile_options(frost_cold_options INTERFACE -O0 -fno-sanitize=alignment,null,object-size,vptr)
else()
  target_compile_options(frost_cold_options INTERFACE -O1)
endif()
