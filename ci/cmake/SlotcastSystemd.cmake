# slotcast_install_systemd(): units, and what systemd-sysusers and systemd-tmpfiles need, under the install prefix, where
# systemd looks for /usr and /usr/local.  The units name the programs by their whole path, so they are written when the
# prefix is known: by `cmake --install`.
option(SLOTCAST_SYSTEMD "Install systemd units" ON)

set(SLOTCAST_UNIT_SOURCES ${CMAKE_SOURCE_DIR}/ci/packaging/systemd)

# Packages configure with the prefix /usr, whose configuration lies in /etc.
function(slotcast_install_systemd)
  if(NOT SLOTCAST_SYSTEMD)
    return()
  endif()
  set(written ${CMAKE_BINARY_DIR}/packages/systemd)
  file(GLOB units RELATIVE ${SLOTCAST_UNIT_SOURCES} CONFIGURE_DEPENDS ${SLOTCAST_UNIT_SOURCES}/*.in)
  foreach(source IN LISTS units)
    cmake_path(GET source STEM LAST_ONLY unit)
    install(CODE "
      set(SLOTCAST_BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
      set(SLOTCAST_SYSCONFDIR \"${CMAKE_INSTALL_FULL_SYSCONFDIR}\")
      configure_file(${SLOTCAST_UNIT_SOURCES}/${source} ${written}/${unit} @ONLY)")
    install(FILES ${written}/${unit} DESTINATION lib/systemd/system)
  endforeach()
  install(FILES ${SLOTCAST_UNIT_SOURCES}/slotcast.sysusers DESTINATION lib/sysusers.d RENAME slotcast.conf)
  install(FILES ${SLOTCAST_UNIT_SOURCES}/slotcast.tmpfiles DESTINATION lib/tmpfiles.d RENAME slotcast.conf)
endfunction()
