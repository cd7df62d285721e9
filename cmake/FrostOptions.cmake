# Compiler settings of our own code; dependencies are not touched by them.
find_program(FROST_CCACHE ccache)
if(FROST_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FROST_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${FROST_CCACHE})
endif()

add_library(frost_options INTERFACE)
target_include_directories(frost_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(frost_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror>)
# Release keeps assert: an engine that trains for hours should notice its own bugs.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
if(FROST_SANITIZE)
  # No -fsanitize=vptr trouble: RTTI stays on. Frames are kept so that reports are readable.
  target_compile_options(frost_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1>)
  target_link_options(frost_options INTERFACE -fsanitize=address,undefined)
endif()
