# slotcast_install(): what `cmake --install` lays down: programs, the shared and the static library, public headers,
# slotcast.pc and the CMake package Slotcast (targets Slotcast::slotcast and Slotcast::slotcast_static).
#
# Both packages find everything relative to themselves, so an installed tree can be moved.  The CMake package is
# written by hand rather than exported: libslotcast.a is made of the layers' objects, and an export would ask for
# targets that nobody outside should know.
include(CMakePackageConfigHelpers)

set(SLOTCAST_PACKAGE_DIR ${CMAKE_CURRENT_LIST_DIR})

function(slotcast_install)
  # The command finds the shared library beside it, wherever the tree lies.  (slotcastd does not use it.  Each
  # program is installed by its own folder.)
  file(RELATIVE_PATH lib_from_bin /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
  if(TARGET slotcast_cli)
    set_target_properties(slotcast_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${lib_from_bin}")
  endif()
  install(TARGETS slotcast slotcast_static)
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/client/include/slotcast ${CMAKE_SOURCE_DIR}/common/base/include/slotcast
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

  set(packages ${CMAKE_BINARY_DIR}/packages)
  file(RELATIVE_PATH SLOTCAST_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(${SLOTCAST_PACKAGE_DIR}/slotcast.pc.in ${packages}/slotcast.pc @ONLY)
  install(FILES ${packages}/slotcast.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Slotcast)
  configure_package_config_file(${SLOTCAST_PACKAGE_DIR}/SlotcastConfig.cmake.in ${packages}/SlotcastConfig.cmake
    INSTALL_DESTINATION ${package_dir} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
  # Before 1.0 a minor version may change the interface.
  write_basic_package_version_file(${packages}/SlotcastConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${packages}/SlotcastConfig.cmake ${packages}/SlotcastConfigVersion.cmake DESTINATION ${package_dir})
endfunction()
