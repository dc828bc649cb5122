# Every switch of the build, and what it means. None of them fetches anything.
get_directory_property(infobatch_parent PARENT_DIRECTORY)
if(infobatch_parent)
  set(INFOBATCH_TOP_LEVEL OFF)
else()
  set(INFOBATCH_TOP_LEVEL ON)
endif()

set(INFOBATCH_TORCH AUTO
    CACHE STRING "Build the libtorch binding samplers/: AUTO (where torch is found), ON (required) or OFF")
set_property(CACHE INFOBATCH_TORCH PROPERTY STRINGS AUTO ON OFF)
option(INFOBATCH_PYTHON_PACKAGE "Build the library that the Python package carries; pip sets it" OFF)
option(INFOBATCH_CUDA "Build libinfobatch_cuda, the backend of CUDA devices; needs nvcc, no GPU" OFF)
option(INFOBATCH_TESTS "Build the tests" ${INFOBATCH_TOP_LEVEL})
option(INFOBATCH_EXAMPLES "Build the examples and infobatch-train" ${INFOBATCH_TOP_LEVEL})
option(INFOBATCH_BENCH "Build the benchmarks, where Google Benchmark is found" ${INFOBATCH_TOP_LEVEL})
option(INFOBATCH_INSTALL "Define the install rules" ${INFOBATCH_TOP_LEVEL})
option(INFOBATCH_WERROR "Treat warnings as errors" OFF)
option(INFOBATCH_PCH "Precompile torch's headers for our own targets" ON)
option(INFOBATCH_TORCH_UNITY "Compile our own files that include torch's headers several at a time" OFF)
option(INFOBATCH_CCACHE "Compile through ccache, where it is found" ON)
set(INFOBATCH_SANITIZE "" CACHE STRING "Sanitizers, for example address,undefined or thread")
option(INFOBATCH_FUZZ "Build the fuzzing programs; needs Clang with its libFuzzer" OFF)
set(INFOBATCH_TRAIN_LINK "" CACHE FILEPATH "Also leave infobatch-train here, as a link; empty: do not")

# Shared unless the build, or the project around, says BUILD_SHARED_LIBS=OFF. Both libraries are of one kind:
# a shared binding over a static engine would put a second engine into a program that links both.
set(INFOBATCH_LIBRARY_TYPE SHARED)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  set(INFOBATCH_LIBRARY_TYPE STATIC)
endif()

# Programs and libraries of one build find each other by relative paths: a build folder may be moved, and a
# comma in its path does not end up in -Wl,-rpath,<path>, which the compiler splits at commas.
if(NOT DEFINED CMAKE_BUILD_RPATH_USE_ORIGIN)
  set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
endif()

# Single-configuration generators build nothing useful without a build type.
get_property(infobatch_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(INFOBATCH_TOP_LEVEL AND NOT infobatch_multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

# Another launcher wins. The sloppiness is what ccache needs to handle precompiled headers at all.
if(INFOBATCH_CCACHE AND (NOT CMAKE_CXX_COMPILER_LAUNCHER OR CMAKE_CXX_COMPILER_LAUNCHER MATCHES "(^|/)ccache$"))
  find_program(INFOBATCH_CCACHE_PROGRAM ccache)
  mark_as_advanced(INFOBATCH_CCACHE_PROGRAM)
  if(INFOBATCH_CCACHE_PROGRAM)
    set(infobatch_launcher "${CMAKE_COMMAND}" -E env "CCACHE_SLOPPINESS=pch_defines,time_macros"
        "${INFOBATCH_CCACHE_PROGRAM}")
    set(CMAKE_C_COMPILER_LAUNCHER ${infobatch_launcher})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${infobatch_launcher})
  endif()
endif()
