include(CMakeFindDependencyMacro)
find_dependency(InfoBatch 0.1)
include("${CMAKE_CURRENT_LIST_DIR}/ParentTargets.cmake")
