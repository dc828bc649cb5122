# Compiles for Linux on aarch64 with Debian's g++-aarch64-linux-gnu, and runs the results under qemu-user.
# Header packages of the host serve: nlohmann_json, and Catch2 2, whose headers hold all of it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
find_program(INFOBATCH_QEMU NAMES qemu-aarch64-static qemu-aarch64)
mark_as_advanced(INFOBATCH_QEMU)
if(INFOBATCH_QEMU)
  # Where Debian puts the C and C++ libraries of the target.
  set(CMAKE_CROSSCOMPILING_EMULATOR "${INFOBATCH_QEMU};-L;/usr/aarch64-linux-gnu")
endif()
