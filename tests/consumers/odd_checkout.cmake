# cmake -DSOURCE=<checkout> -DWORK=<folder> -DGENERATOR=<name> -DMAKE_PROGRAM=<path> -DOPTIONS=<list> -P odd_checkout.cmake
# Builds the engine, its examples and the Python package's library in a copy of the checkout whose path has
# blanks and commas; runs and installs them there.
set(checkout "${WORK}/my projects, all of them/info batch,1")
set(build "${checkout}/build/release")
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${checkout}")
foreach(part IN ITEMS CMakeLists.txt LICENSE cmake infobatch cuda_kernels python_bindings_optional examples)
  file(COPY "${SOURCE}/${part}" DESTINATION "${checkout}")
endforeach()

execute_process(
  COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}" -S "${checkout}" -B "${build}"
          -DINFOBATCH_TORCH=OFF -DINFOBATCH_TESTS=OFF -DINFOBATCH_BENCH=OFF -DINFOBATCH_PYTHON_PACKAGE=ON
          -DCMAKE_UNITY_BUILD=ON ${OPTIONS}
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${build}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${build}/examples/example_010_c_api" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${build}/examples/example_009_engine_without_torch" WORKING_DIRECTORY "${build}"
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${build}" --prefix "${checkout}/in, stalled"
                COMMAND_ERROR_IS_FATAL ANY)
