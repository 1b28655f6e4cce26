# SPDX-License-Identifier: Apache-2.0
#
# What a program outside needs to use the client: libraries, headers, find_package(tallycast) and tallycast.pc.
include(CMakePackageConfigHelpers)

install(TARGETS tallycast_proto tallycast_client tallycast_client_shared EXPORT tallycast COMPONENT client
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
set(tally_proto_headers alloc batch block bytes digest fingerprint frame framefile kind limits siphash status wire)
list(TRANSFORM tally_proto_headers PREPEND ${PROJECT_SOURCE_DIR}/proto/include/tallycast/)
list(TRANSFORM tally_proto_headers APPEND .h)
install(FILES ${tally_proto_headers} include/tallycast/mirror.h include/tallycast/memory.h include/tallycast/tally.h
  include/tallycast/guest.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tallycast COMPONENT client)

set(tally_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tallycast)
install(EXPORT tallycast NAMESPACE tallycast:: FILE tallycastTargets.cmake DESTINATION ${tally_package_dir}
  COMPONENT client)
configure_package_config_file(package/tallycastConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/tallycastConfig.cmake
  INSTALL_DESTINATION ${tally_package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tallycastConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tallycastConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/tallycastConfigVersion.cmake DESTINATION ${tally_package_dir} COMPONENT client)

# The prefix is told from where tallycast.pc is, so that what is installed may be moved or staged. The folders are absolute
# when the install folders are, as distributions may set them.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(TALLY_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH tally_pc_up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  set(TALLY_PC_PREFIX "\${pcfiledir}/${tally_pc_up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE ${CMAKE_INSTALL_${dir}})
    set(TALLY_PC_${dir} ${CMAKE_INSTALL_${dir}})
  else()
    set(TALLY_PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
configure_file(package/tallycast.pc.in ${CMAKE_CURRENT_BINARY_DIR}/tallycast.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tallycast.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT client)
