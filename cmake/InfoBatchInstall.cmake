# Install rules: libraries, headers and a relocatable package, find_package(InfoBatch [COMPONENTS samplers]).
# Headers go under a versioned root, so that samplers/ cannot collide with somebody else's.
include(CMakePackageConfigHelpers)
set(infobatch_include_root
    "${CMAKE_INSTALL_INCLUDEDIR}/infobatch-${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
set(infobatch_package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/InfoBatch")

install(TARGETS infobatch EXPORT InfoBatchTargets)
# What is installed is meant to be used; all other headers are the engine's own.
set(infobatch_public_headers
    backends.hpp c_api.h card.hpp column.hpp config.hpp error.hpp export.h host_device.hpp plan.hpp score.hpp session.hpp
    statistics.hpp version.hpp)
list(TRANSFORM infobatch_public_headers PREPEND infobatch/)
install(FILES ${infobatch_public_headers} DESTINATION "${infobatch_include_root}/infobatch"
        COMPONENT headers)
install(EXPORT InfoBatchTargets NAMESPACE InfoBatch:: DESTINATION "${infobatch_package_folder}")

if(TARGET infobatch_samplers)
  install(TARGETS infobatch_samplers EXPORT InfoBatchSamplersTargets)
  install(DIRECTORY samplers DESTINATION "${infobatch_include_root}"
          COMPONENT headers FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp" PATTERN detail EXCLUDE)
  install(EXPORT InfoBatchSamplersTargets NAMESPACE InfoBatch:: DESTINATION "${infobatch_package_folder}")
  install(FILES cmake/FindInfoBatchTorch.cmake cmake/InfoBatchLocateTorch.cmake
          DESTINATION "${infobatch_package_folder}")
endif()
if(TARGET infobatch-train)
  install(TARGETS infobatch-train)
endif()

configure_package_config_file(
  cmake/InfoBatchConfig.cmake.in "${PROJECT_BINARY_DIR}/InfoBatchConfig.cmake"
  INSTALL_DESTINATION "${infobatch_package_folder}")
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/InfoBatchConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/InfoBatchConfig.cmake"
              "${PROJECT_BINARY_DIR}/InfoBatchConfigVersion.cmake"
        DESTINATION "${infobatch_package_folder}")
include(InfoBatchPkgConfig)
# In a larger project CMAKE_INSTALL_DOCDIR is the folder of that one, which may have a LICENSE of its own.
set(infobatch_doc_folder "${CMAKE_INSTALL_DOCDIR}")
if(NOT INFOBATCH_TOP_LEVEL)
  set(infobatch_doc_folder "${CMAKE_INSTALL_DATAROOTDIR}/doc/InfoBatch")
endif()
install(FILES LICENSE DESTINATION "${infobatch_doc_folder}")
