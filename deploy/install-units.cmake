# SPDX-License-Identifier: Apache-2.0
#
# Writes the systemd units with the installed binaries' folder in them: cmake -D in=DIR -D out=DIR -D bindir=DIR -P install-units.cmake
# At install time, because `cmake --install --prefix` may name another prefix than the build did.
file(READ ${in}/hardening.conf hardening)
string(STRIP "${hardening}" hardening)
foreach(unit tallycast-server.service tallycast-edge@.service)
  configure_file(${in}/${unit}.in ${out}/${unit} @ONLY)
endforeach()
