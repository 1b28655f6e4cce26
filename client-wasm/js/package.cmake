# SPDX-License-Identifier: Apache-2.0
#
# The npm package: build/npm/tallycast is its folder, with the two modules inside, and, where npm is there, build/npm/tallycast-VERSION.tgz, which
# `npm pack` makes of it with fixed times, so that the same sources give the same bytes. Sets TALLYCAST_NPM_FOLDER, TALLYCAST_NPM_FILE (or empty).
set(TALLYCAST_NPM_FOLDER "" CACHE INTERNAL "folder of the npm package")
set(TALLYCAST_NPM_FILE "" CACHE INTERNAL "the packed npm package")
if(NOT TALLYCAST_WASM)
  return()
endif()

set(js ${CMAKE_CURRENT_LIST_DIR})
set(out ${PROJECT_BINARY_DIR}/npm/tallycast)
set(sources errors events feed follow hex live merged messages mirror node open reads request share tally web websocket.node workerd)
list(TRANSFORM sources REPLACE "(.+)" "src/\\1.js" OUTPUT_VARIABLE files)
list(APPEND files index.d.ts README.md)

set(made ${out}/package.json ${out}/LICENSE ${out}/wasm/tallycast.wasm ${out}/wasm/tallycast-shared.wasm)
set(copies)
foreach(file ${files})
  list(APPEND made ${out}/${file})
  list(APPEND copies COMMAND ${CMAKE_COMMAND} -E copy ${js}/${file} ${out}/${file})
endforeach()
set(TALLYCAST_NPM_SOURCES ${files} CACHE INTERNAL "what the npm package has, beside the modules")
list(TRANSFORM files PREPEND ${js}/ OUTPUT_VARIABLE inputs)
file(READ ${js}/package.json package)
string(REPLACE "\"version\": \"0.0.0\"" "\"version\": \"${PROJECT_VERSION}\"" package "${package}")
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/npm/package.json CONTENT "${package}" NEWLINE_STYLE UNIX)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${js}/package.json)
add_custom_command(OUTPUT ${made}
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${out}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${out}/src ${out}/wasm
  ${copies}
  COMMAND ${CMAKE_COMMAND} -E copy ${PROJECT_BINARY_DIR}/npm/package.json ${out}/package.json
  COMMAND ${CMAKE_COMMAND} -E copy ${PROJECT_SOURCE_DIR}/LICENSE ${out}/LICENSE
  COMMAND ${CMAKE_COMMAND} -E copy ${TALLYCAST_WASM} ${TALLYCAST_WASM_SHARED} ${out}/wasm
  COMMAND chmod 644 ${made} # npm packs modes as they are: the linker's, and those of whose umask it is
  DEPENDS ${inputs} ${PROJECT_BINARY_DIR}/npm/package.json ${PROJECT_SOURCE_DIR}/LICENSE ${TALLYCAST_WASM} ${TALLYCAST_WASM_SHARED}
  COMMENT "Assembling the npm package" VERBATIM)
set(outputs ${made})
set(TALLYCAST_NPM_FOLDER ${out} CACHE INTERNAL "folder of the npm package")

find_program(TALLY_NPM npm)
if(TALLY_NPM)
  set(packed ${PROJECT_BINARY_DIR}/npm/tallycast-${PROJECT_VERSION}.tgz)
  add_custom_command(OUTPUT ${packed}
    COMMAND ${TALLY_NPM} pack --silent --offline --ignore-scripts --pack-destination ${PROJECT_BINARY_DIR}/npm ${out} > ${PROJECT_BINARY_DIR}/npm/pack.log
    DEPENDS ${made} COMMENT "Packing the npm package" VERBATIM)
  list(APPEND outputs ${packed})
  set(TALLYCAST_NPM_FILE ${packed} CACHE INTERNAL "the packed npm package")
endif()
add_custom_target(tallycast_npm ALL DEPENDS ${outputs})
