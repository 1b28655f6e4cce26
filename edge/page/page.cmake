# SPDX-License-Identifier: Apache-2.0
#
# The live page and the JavaScript client, which the edge serves from its own memory: each file's bytes by .incbin, and a table of them. Makes the
# object library tallycast_edge_page, of nothing but an empty table where the modules are not built.
set(page ${CMAKE_CURRENT_LIST_DIR})
set(page_out ${CMAKE_CURRENT_BINARY_DIR}/page)
set(page_files)   # PATH|FILE|TYPE
set(page_script text/javascript)
if(TALLYCAST_WASM)
  enable_language(ASM)
  list(APPEND page_files
    "/|${page}/index.html|text/html"
    "/page/style.css|${page}/style.css|text/css"
    "/page/page.js|${page}/page.js|${page_script}"
    "/page/worker.js|${page}/worker.js|${page_script}"
    "/page/icon.svg|${page}/icon.svg|image/svg+xml"
    "/client/wasm/tallycast.wasm|${TALLYCAST_WASM}|application/wasm"
    "/client/wasm/tallycast-shared.wasm|${TALLYCAST_WASM_SHARED}|application/wasm")
  foreach(file ${TALLYCAST_NPM_SOURCES})
    # Not what only Node and workerd can load.
    if(file MATCHES "^src/.*\\.js$" AND NOT file MATCHES "node\\.js$|workerd\\.js$")
      list(APPEND page_files "/client/${file}|${PROJECT_SOURCE_DIR}/client-wasm/js/${file}|${page_script}")
    endif()
  endforeach()
endif()

set(assembly "    .section .rodata\n")
set(table)
set(inputs)
set(number 0)
foreach(entry ${page_files})
  string(REPLACE "|" ";" entry "${entry}")
  list(GET entry 0 path)
  list(GET entry 1 file)
  list(GET entry 2 type)
  if(type MATCHES "^text/")
    string(APPEND type "; charset=utf-8")
  endif()
  set(name edge_page_file_${number})
  string(APPEND assembly "    .balign 64\n    .globl ${name}\n    .globl ${name}_end\n${name}:\n    .incbin \"${file}\"\n${name}_end:\n    .byte 0\n")
  string(APPEND table "PAGE_FILE(${name}, \"${path}\", \"${type}\")\n")
  list(APPEND inputs ${file})
  math(EXPR number "${number} + 1")
endforeach()
string(APPEND assembly "    .section .note.GNU-stack,\"\",@progbits\n")
file(GENERATE OUTPUT ${page_out}/files.S CONTENT "${assembly}")
file(GENERATE OUTPUT ${page_out}/files.inc CONTENT "${table}")

add_library(tallycast_edge_page OBJECT ${page}/page.c)
target_include_directories(tallycast_edge_page PUBLIC ${PROJECT_SOURCE_DIR} PRIVATE ${page_out})
target_link_libraries(tallycast_edge_page PUBLIC tallycast_io)
if(page_files)
  target_sources(tallycast_edge_page PRIVATE ${page_out}/files.S)
  set_source_files_properties(${page_out}/files.S PROPERTIES OBJECT_DEPENDS "${inputs}")
  add_dependencies(tallycast_edge_page tallycast_wasm)
endif()
