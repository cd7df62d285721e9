# cudnn-frontend, NVIDIA's header-only C++ door to cuDNN's graph API. An installed one is taken where it has the minor version
# that was tested: conv_graph.cpp also uses what lies beneath the frontend's stable part. Else the headers come out of its
# Python package, through pip, which knows the user's index and proxy and compares the hash in cudnn_frontend.txt. All wheels
# of a version hold the same headers.
set(FROST_CUDNN_FRONTEND_VERSION 1.32.0)

function(frost_cudnn_frontend_is_new result folder)
  set(version 0)
  if(EXISTS ${folder}/cudnn_frontend_version.h)
    file(STRINGS ${folder}/cudnn_frontend_version.h version REGEX "define CUDNN_FRONTEND_(MAJOR|MINOR|PATCH)_VERSION")
    list(TRANSFORM version REPLACE "[^0-9]+" "")
    list(JOIN version . version)
  endif()
  string(REGEX MATCH "^[0-9]+[.][0-9]+[.]" tested ${FROST_CUDNN_FRONTEND_VERSION})
  string(FIND "${version}" "${tested}" at)
  if(NOT at EQUAL 0 OR version VERSION_LESS FROST_CUDNN_FRONTEND_VERSION)
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()

# FROST_CUDNN_FRONTEND_INCLUDE becomes the folder of cudnn_frontend.h. What is fetched serves all builds of a user.
function(frost_find_cudnn_frontend)
  set(name third_party/cudnn-frontend-${FROST_CUDNN_FRONTEND_VERSION})
  set(homes ${CMAKE_BINARY_DIR}/${name})
  if(NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
    list(PREPEND homes $ENV{XDG_CACHE_HOME}/frost/${name})
  elseif(NOT "$ENV{HOME}" STREQUAL "")
    list(PREPEND homes $ENV{HOME}/.cache/frost/${name})
  endif()
  set(look FROST_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h HINTS ${ARGV} ENV CUDNN_ROOT PATHS ${homes} PATH_SUFFIXES include
    VALIDATOR frost_cudnn_frontend_is_new)
  set(known TRUE)
  frost_cudnn_frontend_is_new(known "${FROST_CUDNN_FRONTEND_INCLUDE}")
  if(NOT known)  # what an earlier run of CMake found may be gone
    unset(FROST_CUDNN_FRONTEND_INCLUDE CACHE)
  endif()
  find_path(${look})
  if(FROST_CUDNN_FRONTEND_INCLUDE)
    return()
  endif()
  message(STATUS "cudnn-frontend ${FROST_CUDNN_FRONTEND_VERSION}: fetching its headers by pip")

  string(RANDOM LENGTH 8 mark)  # builds that are configured at the same time
  foreach(place IN LISTS homes)
    set(home ${place})
    set(work ${home}.${mark})
    execute_process(COMMAND ${CMAKE_COMMAND} -E make_directory ${work} ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      break()
    endif()
  endforeach()
  find_program(FROST_PYTHON python3)
  if(FROST_PYTHON)
    execute_process(OUTPUT_QUIET ERROR_QUIET
      COMMAND ${FROST_PYTHON} -m pip download --no-deps --only-binary=:all: --implementation cp --python-version 3.12 --abi cp312
        --platform manylinux_2_28_x86_64 --retries 1 --timeout 30 --dest ${work}
        --require-hashes --requirement ${PROJECT_SOURCE_DIR}/third_party/cudnn_frontend.txt)
  endif()
  file(GLOB wheel ${work}/*.whl)
  if(wheel)
    file(ARCHIVE_EXTRACT INPUT ${wheel} DESTINATION ${work} PATTERNS "include/*" "*/licenses/*")
    file(REMOVE ${wheel})
    set(known TRUE)
    frost_cudnn_frontend_is_new(known ${home}/include)
    if(NOT known)
      file(REMOVE_RECURSE ${home})  # half of it
    endif()
    file(RENAME ${work} ${home} RESULT ignored)  # not where another build was first
    message(STATUS "cudnn-frontend ${FROST_CUDNN_FRONTEND_VERSION}: fetched into ${home}")
  endif()
  file(REMOVE_RECURSE ${work})
  find_path(${look})
endfunction()
