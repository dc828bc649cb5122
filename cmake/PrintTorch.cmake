# cmake -P cmake/PrintTorch.cmake: prints "<version> <root>" of the libtorch that Torch_DIR or
# CMAKE_PREFIX_PATH names (environment variables), nothing where they name none.
set(INFOBATCH_TORCH_ONLY_GIVEN ON)
include("${CMAKE_CURRENT_LIST_DIR}/InfoBatchLocateTorch.cmake")
infobatch_locate_torch(root version reason)
if(root)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "${version} ${root}")
endif()
