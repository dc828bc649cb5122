# What every target of ours gets: warnings, sanitizers, hidden symbols. Private to the target, so a
# user's build sees none of it.
add_library(infobatch_dev INTERFACE)
if(INFOBATCH_FUZZ)
  # Every object counts its edges, for the fuzzing programs to look at.
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS -fsanitize=fuzzer)
  check_cxx_source_compiles(
    "extern \"C\" int LLVMFuzzerTestOneInput(const unsigned char*, decltype(sizeof 0)) { return 0; }"
    INFOBATCH_COMPILER_HAS_FUZZER)
  unset(CMAKE_REQUIRED_FLAGS)
  if(NOT INFOBATCH_COMPILER_HAS_FUZZER)
    message(FATAL_ERROR
      "InfoBatch: INFOBATCH_FUZZ needs Clang with libFuzzer, got ${CMAKE_CXX_COMPILER_ID} "
      "(${CMAKE_CXX_COMPILER}), which links nothing with -fsanitize=fuzzer. scripts/setup.sh fuzz "
      "installs both; on Debian they are clang and libclang-rt-<version>-dev")
  endif()
  target_compile_options(infobatch_dev INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(infobatch_dev INTERFACE
    -Wall -Wextra -Wshadow
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
    $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
    $<$<BOOL:${INFOBATCH_WERROR}>:-Werror>)
  if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC warns of types in unnamed namespaces behind an #include, which is where a unity build has all of them.
    target_compile_options(infobatch_dev INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
  endif()
  if(INFOBATCH_SANITIZE)
    target_compile_options(infobatch_dev INTERFACE
      -fsanitize=${INFOBATCH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(infobatch_dev INTERFACE -fsanitize=${INFOBATCH_SANITIZE})
    if(INFOBATCH_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # GCC warns that it does not follow fences; the engine's one fence only orders memory that is reused.
      target_compile_options(infobatch_dev INTERFACE -Wno-tsan)
    endif()
  endif()
elseif(INFOBATCH_SANITIZE)
  message(FATAL_ERROR "InfoBatch: INFOBATCH_SANITIZE needs GCC or Clang, got ${CMAKE_CXX_COMPILER_ID}")
endif()

# infobatch_can_sanitize(<sanitizer> <variable>): whether test programs can have this one, whatever
# INFOBATCH_SANITIZE asks for. An emulator of another processor does not run theirs.
function(infobatch_can_sanitize sanitizer result)
  set(${result} FALSE PARENT_SCOPE)
  if(CMAKE_CROSSCOMPILING OR NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    return()
  endif()
  include(CheckCXXSourceCompiles)
  set(flags -fsanitize=${sanitizer})
  if(sanitizer STREQUAL "address")
    set(flags -fsanitize=address,undefined)  # tests have both, and a system may lack the one
  endif()
  set(CMAKE_REQUIRED_FLAGS ${flags})
  check_cxx_source_compiles("int main() { return 0; }" INFOBATCH_COMPILER_LINKS_${sanitizer}_SANITIZER)
  if(INFOBATCH_COMPILER_LINKS_${sanitizer}_SANITIZER)
    set(${result} TRUE PARENT_SCOPE)
  elseif(INFOBATCH_WERROR)
    # No test is left out without a word where everything has to be seen.
    message(FATAL_ERROR "InfoBatch: ${CMAKE_CXX_COMPILER} links nothing with ${flags}")
  endif()
endfunction()

# Compiles of torch's headers need 1.5 to 2 GB each: no more of them at once than memory holds.
cmake_host_system_information(RESULT infobatch_memory_mib QUERY AVAILABLE_PHYSICAL_MEMORY)
math(EXPR infobatch_torch_jobs "${infobatch_memory_mib} / 2048")
if(infobatch_torch_jobs LESS 1)
  set(infobatch_torch_jobs 1)
endif()
set_property(GLOBAL APPEND PROPERTY JOB_POOLS infobatch_torch=${infobatch_torch_jobs})

# Whatever the program around asks for, -Ofast or -ffast-math among its CMAKE_CXX_FLAGS: our objects tell
# NaN patterns and denormal numbers apart. The flags of a target come behind those, the last one counts.
# Options of linked libraries come behind a target's own, and equal options are left out behind the first:
# hence a library, linked last, and SHELL:.
add_library(infobatch_exact INTERFACE)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(infobatch_exact INTERFACE
    "$<$<COMPILE_LANGUAGE:C,CXX>:SHELL:-fno-fast-math -ffp-contract=off>")
endif()
function(infobatch_exact_floats target)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:infobatch_exact>)
endfunction()

# infobatch_target_defaults(<target> [TORCH])
# TORCH: the target includes torch's headers; it shares one precompiled header with its like.
function(infobatch_target_defaults target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "" "")
  get_target_property(type ${target} TYPE)
  infobatch_exact_floats(${target})
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  if(type STREQUAL "EXECUTABLE")
    # The engine's tests have helpers of the same names in each file; a unity build is for the libraries.
    set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)
  endif()
  if(type STREQUAL "EXECUTABLE" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    # Like the libraries, because a precompiled header serves only one kind of code (-fPIC, not -fPIE).
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  # BUILD_INTERFACE: an installed target must not ask for this one.
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:infobatch_dev>)
  if(arg_TORCH)
    set_target_properties(${target} PROPERTIES JOB_POOL_COMPILE infobatch_torch)
    # GCC instantiates the templates that torch's headers ask for in each file anew, for ten seconds.
    if(INFOBATCH_TORCH_UNITY AND NOT type STREQUAL "EXECUTABLE")
      set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 7)
    endif()
    if(INFOBATCH_PCH)
      infobatch_torch_pch()
      if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
      endif()
      target_precompile_headers(${target} REUSE_FROM infobatch_torch_pch)
    endif()
  endif()
endfunction()

# torch/torch.h takes more than ten seconds to read; precompiled, it is read once.
function(infobatch_torch_pch)
  if(TARGET infobatch_torch_pch)
    return()
  endif()
  file(WRITE "${PROJECT_BINARY_DIR}/infobatch_torch_pch.cpp.in" "// Carries the precompiled torch/torch.h.\n")
  configure_file("${PROJECT_BINARY_DIR}/infobatch_torch_pch.cpp.in"
                 "${PROJECT_BINARY_DIR}/infobatch_torch_pch.cpp" COPYONLY)
  add_library(infobatch_torch_pch OBJECT "${PROJECT_BINARY_DIR}/infobatch_torch_pch.cpp")
  set_target_properties(infobatch_torch_pch PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON
    JOB_POOL_COMPILE infobatch_torch)
  infobatch_exact_floats(infobatch_torch_pch)
  target_link_libraries(infobatch_torch_pch PRIVATE InfoBatchTorch::torch infobatch_dev)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(infobatch_torch_pch PRIVATE -fpch-preprocess)
  endif()
  target_precompile_headers(infobatch_torch_pch PRIVATE <torch/torch.h>)
endfunction()

# Finds torch as INFOBATCH_TORCH says. Sets INFOBATCH_HAVE_TORCH and the results of the find module.
macro(infobatch_find_torch)
  set(INFOBATCH_HAVE_TORCH OFF)
  if(INFOBATCH_TORCH STREQUAL "OFF")
    message(STATUS "InfoBatch: engine only (INFOBATCH_TORCH=OFF)")
  else()
    find_package(InfoBatchTorch MODULE)
    if(InfoBatchTorch_FOUND)
      set(INFOBATCH_HAVE_TORCH ON)
    elseif(INFOBATCH_TORCH STREQUAL "AUTO")
      message(STATUS "InfoBatch: engine only, no torch found; 'make demo' or 'make test' installs one, "
                     "or set CMAKE_PREFIX_PATH or Torch_DIR to yours")
    else()
      message(FATAL_ERROR "InfoBatch: INFOBATCH_TORCH=ON, but ${InfoBatchTorch_NOT_FOUND_MESSAGE}")
    endif()
  endif()
endmacro()
