# cmake -DPREFIX=<folder> -DKIND=static|shared -P install.cmake, in the parent's build folder: runs its program,
# installs it, and looks whether what is installed is of that kind.
execute_process(COMMAND "./plan_epochs" COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE_RECURSE "${PREFIX}")
execute_process(COMMAND "${CMAKE_COMMAND}" --install . --prefix "${PREFIX}" COMMAND_ERROR_IS_FATAL ANY)
file(GLOB_RECURSE archives "${PREFIX}/*.a")
file(GLOB_RECURSE shared "${PREFIX}/*.so" "${PREFIX}/*.dylib")
list(LENGTH archives archives)
list(LENGTH shared shared)
message(STATUS "${archives} static and ${shared} shared libraries in ${PREFIX}")
if(KIND STREQUAL "static" AND NOT (archives EQUAL 2 AND shared EQUAL 0) OR
   KIND STREQUAL "shared" AND NOT (archives EQUAL 0 AND shared EQUAL 2))
  message(FATAL_ERROR "two ${KIND} libraries must be installed, and no other")
endif()
file(GLOB_RECURSE licenses "${PREFIX}/*LICENSE")
if(NOT licenses MATCHES "doc/InfoBatch/LICENSE$")
  message(FATAL_ERROR "InfoBatch's license belongs into a folder of its own, got '${licenses}'")
endif()
