# cmake -DBUILD=<build folder> -DCONFIG=<configuration> -DPREFIX=<folder> -P install.cmake
# Installs InfoBatch and moves the result to PREFIX, so that a package that remembers where it was
# installed is found out.
file(REMOVE_RECURSE "${PREFIX}" "${PREFIX}-staging")
execute_process(
  COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --config "${CONFIG}" --prefix "${PREFIX}-staging"
  RESULT_VARIABLE status)
if(status)
  message(FATAL_ERROR "installation failed: ${status}")
endif()
file(RENAME "${PREFIX}-staging" "${PREFIX}")
