# cmake -DPKG_CONFIG=<program> -DCC=<C compiler> -DFLAGS=<its flags> -DPREFIX=<installation> -DKIND=static|shared
#       -DVERSION=<of InfoBatch> -DWORK=<folder> -P pkg_config.cmake
# Builds plan_epochs_c.c as somebody does who has a compiler and pkg-config, and nothing else; runs it.
file(GLOB_RECURSE description "${PREFIX}/infobatch.pc")
list(LENGTH description count)
if(NOT count EQUAL 1)
  message(FATAL_ERROR "one infobatch.pc must be installed in ${PREFIX}, got '${description}'")
endif()
get_filename_component(folder "${description}" DIRECTORY)
set(ENV{PKG_CONFIG_PATH} "${folder}")
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")

execute_process(COMMAND "${PKG_CONFIG}" --modversion infobatch
  OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
if(NOT version STREQUAL VERSION)
  message(FATAL_ERROR "infobatch.pc says version ${version}, the library is ${VERSION}")
endif()
execute_process(COMMAND "${PKG_CONFIG}" --variable=libdir infobatch
  OUTPUT_VARIABLE libdir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

# `--static` asks for what the library itself needs, too; it must not be needed.
foreach(static IN ITEMS "" "--static")
  execute_process(
    COMMAND sh -c "set -x; '${CC}' ${FLAGS} '${CMAKE_CURRENT_LIST_DIR}/plan_epochs_c.c' -o '${WORK}/plan_epochs_c' \
                   $('${PKG_CONFIG}' ${static} --cflags --libs infobatch)"
    COMMAND_ERROR_IS_FATAL ANY)
  # A static program runs by itself; a shared one is told where the moved library is.
  set(search "")
  if(KIND STREQUAL "shared")
    set(search "LD_LIBRARY_PATH=${libdir}")
  endif()
  execute_process(COMMAND "${CMAKE_COMMAND}" -E env --unset=LD_LIBRARY_PATH ${search} "${WORK}/plan_epochs_c"
                  COMMAND_ERROR_IS_FATAL ANY)
endforeach()
