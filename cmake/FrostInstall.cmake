# What `cmake --install` and cpack write, in three components: runtime (the tools), development (libfrost.a with its headers, CMake
# package and pkg-config file), cuda (libfrost_cuda.so, which tools and programs open by name).
include(CMakePackageConfigHelpers)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME development)

install(TARGETS frost EXPORT frost ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${CMAKE_INSTALL_INCLUDEDIR}/frost)
if(TARGET frost_cuda)
  install(TARGETS frost_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda)
endif()
get_property(tools GLOBAL PROPERTY FROST_INSTALLED_TOOLS)
install(TARGETS ${tools} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)

# Headers include each other as "engine/...", which include/frost answers; <frost/frost.h> is found in include.
install(FILES include/frost/frost.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/frost)
install(DIRECTORY kernels engine models DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/frost FILES_MATCHING PATTERN "*.h"
  PATTERN kernels/cuda EXCLUDE PATTERN kernels/cpu EXCLUDE PATTERN yamls EXCLUDE PATTERN hyps EXCLUDE
  PATTERN explain_report.h EXCLUDE PATTERN run_checkpoints.h EXCLUDE)  # they need nlohmann/json

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/frost)
install(EXPORT frost NAMESPACE frost:: FILE frostTargets.cmake DESTINATION ${package})
configure_package_config_file(cmake/frostConfig.cmake.in ${PROJECT_BINARY_DIR}/frostConfig.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/frostConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/frostConfig.cmake ${PROJECT_BINARY_DIR}/frostConfigVersion.cmake
  DESTINATION ${package})
file(RELATIVE_PATH FROST_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)  # wherever the prefix is moved to
configure_file(cmake/frost.pc.in ${PROJECT_BINARY_DIR}/frost.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/frost.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)

# cpack: a Debian package for each component, and one archive of them all. The tools need libraries, never -dev packages.
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PACKAGE_VENDOR frost)
set(CPACK_PACKAGE_CONTACT "frost <frost@localhost>")
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime development)
if(TARGET frost_cuda)
  list(APPEND CPACK_COMPONENTS_ALL cuda)
endif()
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME frost)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION science)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME frost-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libdnnl-dev, libfmt-dev, libyaml-cpp-dev, libjpeg-dev, libpng-dev, libtiff-dev, \
libwebp-dev, libzip-dev, libcurl4-openssl-dev, pkg-config")
# cuDNN and cuBLAS come from NVIDIA's packages, whose names differ; what is missing is said in one line when it is opened.
set(CPACK_DEBIAN_CUDA_PACKAGE_NAME frost-cuda)
set(CPACK_DEBIAN_CUDA_PACKAGE_SECTION science)
set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "frost (= ${PROJECT_VERSION})")
include(CPack)
