# What the Python package's build needs before the engine is added: a system that the engine knows, and
# nlohmann_json, which comes from the build environment that pip makes (pyproject.toml).
if(NOT UNIX OR CYGWIN)
  message(FATAL_ERROR
    "InfoBatch: the Python package is for Linux (wheels for x86-64 and aarch64, built from source "
    "elsewhere) and macOS (built from source); the engine uses POSIX files and threads. "
    "${CMAKE_SYSTEM_NAME} is not supported")
endif()

if(NOT TARGET nlohmann_json::nlohmann_json)
  # Before a system package: a folder such as /usr/include must not get in front of a cross-compiler's own.
  if(NOT Python_EXECUTABLE)
    find_program(Python_EXECUTABLE NAMES python3 python)
  endif()
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import nlohmann_json as n, os; print(os.path.join(os.path.dirname(n.__file__), 'include'))"
    OUTPUT_VARIABLE infobatch_json_include OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET RESULT_VARIABLE infobatch_json_failed)
  if(NOT infobatch_json_failed AND EXISTS "${infobatch_json_include}/nlohmann/json.hpp")
    message(STATUS "InfoBatch: nlohmann_json in ${infobatch_json_include}")
    add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED GLOBAL)
    set_target_properties(nlohmann_json::nlohmann_json PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${infobatch_json_include}")
  endif()
endif()
