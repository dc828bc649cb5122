#[==[
Finds an installed libtorch (2.6 or newer) and makes one target of it, InfoBatchTorch::torch.

Torch's own package stops with an error where its wheel is a CUDA build and the machine has no CUDA
toolkit of the same major version, and it overwrites CUDA architectures where there is one. This module
reads the same installation and needs neither: headers, libtorch, libtorch_cpu, libc10.

Searched, first hit wins:
  1. a target `torch` that exists already
  2. INFOBATCH_TORCH_ROOT     folder that holds torch's include/ and lib/
  3. Torch_DIR                CMake or environment variable
  4. CMAKE_PREFIX_PATH        CMake or environment variable
  5. INFOBATCH_PYTHON         the torch of this Python interpreter
  6. the active virtual environment (VIRTUAL_ENV)
  7. .venv in the InfoBatch checkout, where set-up puts it

Result: InfoBatchTorch_FOUND, InfoBatchTorch_VERSION, InfoBatchTorch_ROOT, InfoBatchTorch_CXX11_ABI and
the target InfoBatchTorch::torch, which asks its users for C++17, or C++20 where that torch needs it.
#]==]
include("${CMAKE_CURRENT_LIST_DIR}/InfoBatchLocateTorch.cmake")

set(INFOBATCH_TORCH_ROOT "" CACHE PATH "Folder that holds torch's include/ and lib/; empty: search")
set(INFOBATCH_PYTHON "" CACHE FILEPATH "Python interpreter whose torch is used; empty: search")
mark_as_advanced(INFOBATCH_TORCH_ROOT INFOBATCH_PYTHON)

infobatch_locate_torch(InfoBatchTorch_ROOT InfoBatchTorch_VERSION infobatch_torch_reason)
set(InfoBatchTorch_NOT_FOUND_MESSAGE "${infobatch_torch_reason}")

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(InfoBatchTorch
  REQUIRED_VARS InfoBatchTorch_ROOT
  VERSION_VAR InfoBatchTorch_VERSION
  REASON_FAILURE_MESSAGE "${infobatch_torch_reason}")

if(InfoBatchTorch_FOUND AND NOT TARGET InfoBatchTorch::torch)
  set(infobatch_torch_lib "${InfoBatchTorch_ROOT}/lib")
  add_library(InfoBatchTorch::torch INTERFACE IMPORTED GLOBAL)

  # Which of libstdc++'s two string layouts torch was built with is visible in c10::Error's constructor.
  set(InfoBatchTorch_CXX11_ABI 1)
  file(STRINGS "${infobatch_torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}c10${CMAKE_SHARED_LIBRARY_SUFFIX}"
       infobatch_torch_old_abi REGEX "^_ZN3c105ErrorC[12]ENS_14SourceLocationESs$" LIMIT_COUNT 1)
  if(infobatch_torch_old_abi)
    set(InfoBatchTorch_CXX11_ABI 0)
    set_property(TARGET InfoBatchTorch::torch
                 PROPERTY INTERFACE_COMPILE_DEFINITIONS _GLIBCXX_USE_CXX11_ABI=0)
  endif()

  # torch's headers: C++17 up to 2.11, C++20 from 2.12 on. A feature and not a flag: whoever links this
  # target gets at least that standard, and may choose a newer one.
  if(InfoBatchTorch_VERSION VERSION_GREATER_EQUAL 2.12)
    set_property(TARGET InfoBatchTorch::torch PROPERTY INTERFACE_COMPILE_FEATURES cxx_std_20)
  else()
    set_property(TARGET InfoBatchTorch::torch PROPERTY INTERFACE_COMPILE_FEATURES cxx_std_17)
  endif()

  if(TARGET torch)
    set_property(TARGET InfoBatchTorch::torch PROPERTY INTERFACE_LINK_LIBRARIES torch)
  else()
    set_property(TARGET InfoBatchTorch::torch PROPERTY INTERFACE_INCLUDE_DIRECTORIES
      "${InfoBatchTorch_ROOT}/include" "${InfoBatchTorch_ROOT}/include/torch/csrc/api/include")
    set(infobatch_torch_libraries "")
    # What the linker is to keep, used or not: full paths, which may have blanks and commas.
    set(infobatch_torch_kept "")
    set(infobatch_torch_imported torch_cpu c10)
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND infobatch_torch_lib MATCHES ",")
      # CMake would write -Wl,-rpath,<path>, which the compiler splits at commas. So CMake gets no library
      # to think about; the linker gets the same ones, and the run path.
      foreach(name IN LISTS infobatch_torch_imported)
        string(APPEND infobatch_torch_kept
          " \"${infobatch_torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}\"")
      endforeach()
      set(infobatch_torch_imported "")
      set_property(TARGET InfoBatchTorch::torch APPEND PROPERTY INTERFACE_LINK_OPTIONS
        "SHELL:-Xlinker -rpath -Xlinker \"${infobatch_torch_lib}\"" "LINKER:--allow-shlib-undefined")
    endif()
    foreach(name IN LISTS infobatch_torch_imported)
      add_library(InfoBatchTorch::${name} SHARED IMPORTED GLOBAL)
      set(infobatch_torch_file
        "${infobatch_torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}")
      set_target_properties(InfoBatchTorch::${name} PROPERTIES
        IMPORTED_LOCATION "${infobatch_torch_file}"
        # torch's own dependencies are found at run time through its RPATH, not by our link.
        INTERFACE_LINK_OPTIONS "$<$<PLATFORM_ID:Linux>:LINKER:--allow-shlib-undefined>")
      list(APPEND infobatch_torch_libraries InfoBatchTorch::${name})
    endforeach()
    set(infobatch_torch_file
      "${infobatch_torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}torch${CMAKE_SHARED_LIBRARY_SUFFIX}")
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
      # libtorch itself defines nothing: it stands for the back ends (CUDA among them), which register
      # themselves when it is loaded. So it must stay linked where the linker drops what looks unused.
      # An option and not a library, because SHELL: quotes the path for itself.
      set_property(TARGET InfoBatchTorch::torch APPEND PROPERTY INTERFACE_LINK_OPTIONS
        "SHELL:-Wl,--push-state,--no-as-needed \"${infobatch_torch_file}\"${infobatch_torch_kept} -Wl,--pop-state")
    else()
      list(PREPEND infobatch_torch_libraries "${infobatch_torch_file}")
    endif()
    set_property(TARGET InfoBatchTorch::torch
                 PROPERTY INTERFACE_LINK_LIBRARIES "${infobatch_torch_libraries}")
  endif()
  message(STATUS "InfoBatch: torch ${InfoBatchTorch_VERSION} in ${InfoBatchTorch_ROOT}")
endif()
