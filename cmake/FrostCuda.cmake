# FROST_CUDA=AUTO builds the CUDA backend where nvcc, cuDNN, cudnn-frontend and cuBLAS are found, ON insists and says what is
# missing, OFF never looks. The backend is a library of its own that is opened at run time: a build with it also runs on
# machines without a GPU.
set(FROST_CUDA AUTO CACHE STRING "CUDA backend: AUTO, ON or OFF")
set_property(CACHE FROST_CUDA PROPERTY STRINGS AUTO ON OFF)
set(FROST_CUDA_FOUND OFF)

if(NOT FROST_CUDA STREQUAL "OFF")
  find_program(FROST_NVCC nvcc PATHS /usr/local/cuda/bin)
  if(FROST_NVCC)
    file(REAL_PATH ${FROST_NVCC} nvcc)
    cmake_path(GET nvcc PARENT_PATH toolkit)
    cmake_path(GET toolkit PARENT_PATH toolkit)
  endif()
  find_path(FROST_CUDNN_INCLUDE cudnn.h HINTS ${toolkit} ENV CUDNN_ROOT PATH_SUFFIXES include)
  find_library(FROST_CUDNN_LIBRARY cudnn HINTS ${toolkit} ENV CUDNN_ROOT PATH_SUFFIXES lib lib64)
  find_library(FROST_CUBLASLT_LIBRARY cublasLt HINTS ${toolkit} PATH_SUFFIXES lib lib64)
  find_library(FROST_CUDA_STUB cuda HINTS ${toolkit} PATH_SUFFIXES lib64/stubs lib/stubs)  # tests: a driver by name only

  set(missing "")
  foreach(need IN ITEMS FROST_NVCC:nvcc FROST_CUDNN_INCLUDE:cudnn.h FROST_CUDNN_LIBRARY:libcudnn
                        FROST_CUBLASLT_LIBRARY:libcublasLt)
    string(REGEX MATCH "([^:]+):(.+)" _ ${need})
    if(NOT ${CMAKE_MATCH_1})
      list(APPEND missing ${CMAKE_MATCH_2})
    endif()
  endforeach()
  if(NOT missing)  # it may be fetched, not in vain
    include(${PROJECT_SOURCE_DIR}/third_party/cudnn_frontend.cmake)
    frost_find_cudnn_frontend(${toolkit})
    if(NOT FROST_CUDNN_FRONTEND_INCLUDE)
      string(CONCAT missing "cudnn_frontend.h ${FROST_CUDNN_FRONTEND_VERSION} (neither installed nor to be had by pip; "
        "-D FROST_CUDNN_FRONTEND_INCLUDE=FOLDER says where it is)")
    endif()
  endif()
  list(JOIN missing ", " missing)

  if(missing STREQUAL "")
    message(STATUS "CUDA backend: built with ${FROST_NVCC}")
    set(FROST_CUDA_FOUND ON)
  elseif(FROST_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CUDA backend: FROST_CUDA=ON, but not found: ${missing}")
  else()
    message(STATUS "CUDA backend: left out, not found: ${missing}")
  endif()
endif()

if(FROST_CUDA_FOUND)
  # A100 and H100, and code that the driver compiles for what comes after them.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "Compute capabilities that kernels are compiled for")
  endif()
  set(CMAKE_CUDA_COMPILER ${FROST_NVCC})
  enable_language(CUDA)
  # CMake before 3.25.2 does not know nvcc's flag for C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O2")
endif()
